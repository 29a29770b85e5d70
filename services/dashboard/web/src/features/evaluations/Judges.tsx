"use client";

import { EmptyState } from "@/ui/EmptyState";
import { Section } from "@/ui/Page";
import { Table } from "@/ui/Table";

import type { Judge } from "./card";
import styles from "./Evaluations.module.css";
import { Written } from "./PairChart";

/** Who judged the answers, and how often they are wrong on labels of people. */
export function Judges({ judges }: { judges: readonly Judge[] }) {
  if (judges.length === 0) return <EmptyState title="No judge was needed" compact />;
  return (
    <div className={styles.stack}>
      {judges.map((judge) => (
        <Section key={judge.name} title={judge.name}>
          <p className={styles.explain}>
            <strong>{judge.question}</strong> {judge.method}
          </p>
          <Table
            caption={`Errors of ${judge.name}`}
            rows={judge.measured}
            id={({ data }) => data}
            columns={[
              {
                head: "Labelled data",
                wide: true,
                cell: ({ data, note, licence }) => (
                  <>
                    {data}
                    <br />
                    <span className={styles.faint}>
                      {note} {licence}
                    </span>
                  </>
                ),
              },
              ...["accuracy", "recall", "false_positive_rate", "auroc"].map((name) => ({
                head: name.replaceAll("_", " "),
                cell: ({ figures }: Judge["measured"][number]) =>
                  figures[name] === undefined ? "–" : <Written name="exact_match" figure={figures[name]} />,
              })),
            ]}
          />
          <p className={styles.faint}>Not to be trusted: {judge.limits}</p>
        </Section>
      ))}
    </div>
  );
}
