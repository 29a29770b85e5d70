"use client";

import { FlaskConical, GitCompareArrows } from "lucide-react";
import Link from "next/link";
import { useState } from "react";

import { api, type Schema } from "@/api/client";
import { Badge } from "@/ui/Badge";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { shortId } from "@/ui/format";
import { LinkButton } from "@/ui/LinkButton";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";

import { writer } from "./card";
import styles from "./Evaluations.module.css";

type Card = Schema["ArtifactDocument"];

const FIGURES = [
  ["defense_efficacy", "DE", "Defense efficacy: how much less often attacks succeed"],
  ["collateral_damage", "CD", "Collateral damage: the worst loss on harmless prompts"],
  ["circuit_stability", "CS", "Circuit stability: overlap of circuits found on resamples"],
  ["latency_overhead_pct", "LCO", "Latency overhead: how much slower answers are"],
] as const;

/** All Risk Cards, with their main figures against the win line. */
export function CardList() {
  const cards = api.useQuery("get", "/risk-cards", { params: { query: { limit: 100 } } });
  const [marked, setMarked] = useState<readonly string[]>([]);
  const mark = (id: string, on: boolean) =>
    setMarked((before) => (on ? [...before, id].slice(-2) : before.filter((one) => one !== id)));
  const columns: readonly Column<Card>[] = [
    { head: "Card", cell: ({ id }) => <Link href={`/evaluations/view?id=${id}`}>{shortId(id)}</Link> },
    {
      head: "Verdict",
      cell: ({ summary }) =>
        summary.passed === true ? (
          <Badge tone="good">passed</Badge>
        ) : (
          <Badge tone="bad">missed {missed(summary)}</Badge>
        ),
    },
    ...FIGURES.map(
      ([name, short, long]): Column<Card> => ({
        head: <abbr title={long}>{short}</abbr>,
        number: true,
        cell: ({ summary }) => (typeof summary[name] === "number" ? writer(name)(summary[name]) : "–"),
      }),
    ),
    {
      head: "Made from",
      minor: true,
      cell: ({ parents }) => parents.find((id) => id.startsWith("pol_"))?.slice(-7) ?? "–",
    },
    { head: "Made", cell: ({ created_at: at }) => <Ago at={at} /> },
    {
      head: "Compare",
      cell: ({ id }) => (
        <input
          type="checkbox"
          aria-label={`Compare ${shortId(id)}`}
          checked={marked.includes(id)}
          onChange={({ target }) => mark(id, target.checked)}
        />
      ),
    },
  ];
  const [a, b] = marked;
  return (
    <Page
      title="Evaluations"
      lead="Risk Cards: what a policy prevents, what it costs, and how simple alternatives do beside it, on prompts that fitting never saw."
      actions={
        <>
          {a !== undefined && b !== undefined && (
            <LinkButton href={`/evaluations/compare?a=${a}&b=${b}`} icon={GitCompareArrows}>
              Compare the two
            </LinkButton>
          )}
          <LinkButton href="/evaluations/run" icon={FlaskConical} kind="primary">
            Evaluate a policy
          </LinkButton>
        </>
      }
    >
      <Section title="Newest first">
        {cards.error ? (
          <ErrorState problem={cards.error} retry={() => void cards.refetch()} compact />
        ) : cards.data === undefined ? (
          <Loading what="Risk Cards" />
        ) : cards.data.items.length === 0 ? (
          <EmptyState title="No evaluations yet" compact>
            <p>A card says, with intervals, whether a policy is worth what it costs.</p>
          </EmptyState>
        ) : (
          <>
            <Table caption="Risk Cards" columns={columns} rows={cards.data.items} id={({ id }) => id} />
            <p className={styles.faint}>Mark two cards to compare them.</p>
          </>
        )}
      </Section>
    </Page>
  );
}

function missed(summary: Record<string, unknown>): string {
  const names = Array.isArray(summary.missed) ? new Set(summary.missed) : new Set();
  return `${names.size} of its limits`;
}
