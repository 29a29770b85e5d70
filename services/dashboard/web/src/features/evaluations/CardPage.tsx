"use client";

import { FileText } from "lucide-react";
import Link from "next/link";
import { useState } from "react";

import { api } from "@/api/client";
import { Badge } from "@/ui/Badge";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { moment, shortId } from "@/ui/format";
import { LinkButton } from "@/ui/LinkButton";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Tabs } from "@/ui/Tabs";
import { useUrlState } from "@/ui/url";

import { Arms, Damages } from "./Arms";
import { barRows, title, type Grouping, type RiskCard, type SuiteResult } from "./card";
import styles from "./Evaluations.module.css";
import { Judges } from "./Judges";
import { Latency } from "./Latency";
import { PairChart } from "./PairChart";
import { Samples } from "./Samples";
import { Verdict } from "./Verdict";

/** One Risk Card. */
export function CardPage() {
  const [query, set] = useUrlState();
  const id = query.get("id") ?? "";
  const read = api.useQuery(
    "get",
    "/risk-cards/{artifact_id}",
    { params: { path: { artifact_id: id } } },
    { staleTime: Infinity },
  );
  if (read.error) return <ErrorState problem={read.error} retry={() => void read.refetch()} />;
  if (read.data === undefined) return <Loading what="the Risk Card" />;
  const card = read.data.card as unknown as RiskCard;
  const { artifact } = read.data;
  const winLine = card.win_line.filter(({ source }) => source === "win line");
  const missed = card.win_line.filter(({ passed }) => !passed);
  return (
    <Page
      title={
        <>
          Risk Card {shortId(id)}{" "}
          {missed.length === 0 ? (
            <Badge tone="good">every limit is met</Badge>
          ) : (
            <Badge tone="bad">
              missed: {[...new Set(missed.map(({ name }) => title(name).toLowerCase()))].join(", ")}
            </Badge>
          )}
        </>
      }
      lead={
        <>
          {card.policy.id} ({card.policy.target_class}) on {card.model.name}, measured{" "}
          {moment(artifact.created_at)}
        </>
      }
      actions={
        <LinkButton href={`/reports?card=${id}`} icon={FileText}>
          Audit report
        </LinkButton>
      }
    >
      <Verdict criteria={winLine} />
      <Tabs
        label="Parts of the card"
        value={query.get("part") ?? "suites"}
        onChange={(part) => set({ part })}
        tabs={[
          { id: "suites", label: "Before and after", content: <Suites suites={card.suites} /> },
          {
            id: "arms",
            label: "Beside alternatives",
            content: (
              <div className={styles.stack}>
                <Arms arms={card.arms} />
                <Damages damages={card.damages} />
              </div>
            ),
          },
          { id: "samples", label: "Samples", content: <Samples card={id} /> },
          { id: "latency", label: "Latency and cost", content: <Latency card={card} /> },
          { id: "judges", label: "Judges", content: <Judges judges={card.judges} /> },
          { id: "about", label: "About", content: <About card={card} parents={artifact.parents} /> },
        ]}
      />
    </Page>
  );
}

function Suites({ suites }: { suites: readonly SuiteResult[] }) {
  const [grouping, setGrouping] = useState<Grouping>("all");
  return (
    <div className={styles.stack}>
      <fieldset className={styles.switch}>
        <legend className="visually-hidden">Grouped by</legend>
        {(
          [
            ["all", "all prompts"],
            ["category", "by category"],
            ["wrapper", "by wrapper family"],
          ] as const
        ).map(([value, label]) => (
          <label key={value}>
            <input
              type="radio"
              name="grouping"
              checked={grouping === value}
              onChange={() => setGrouping(value)}
            />
            {label}
          </label>
        ))}
      </fieldset>
      {suites.map((suite) => (
        <Suite key={suite.name} suite={suite} grouping={grouping} />
      ))}
    </div>
  );
}

function Suite({ suite, grouping }: { suite: SuiteResult; grouping: Grouping }) {
  const metrics = Object.keys(suite.metrics);
  const [metric, setMetric] = useState(metrics[0] ?? "");
  const rows = barRows(suite, grouping, metric);
  if (rows.length === 0) return null;
  return (
    <Section
      title={
        <>
          {suite.name} <span className={styles.faint}>n {suite.n}</span>
        </>
      }
      actions={
        grouping !== "all" && metrics.length > 1 ? (
          <select
            aria-label={`Metric of ${suite.name}`}
            value={metric}
            onChange={({ target }) => setMetric(target.value)}
            className={styles.select}
          >
            {metrics.map((name) => (
              <option key={name} value={name}>
                {title(name)}
              </option>
            ))}
          </select>
        ) : grouping !== "all" ? (
          <span className={styles.faint}>{title(metric)}</span>
        ) : null
      }
    >
      <PairChart caption={`${suite.name}, before and after`} rows={rows} />
    </Section>
  );
}

function About({ card, parents }: { card: RiskCard; parents: readonly string[] }) {
  return (
    <div className={styles.stack}>
      <Section title="How to read it">
        {card.notes.length === 0 ? (
          <EmptyState title="No notes" compact />
        ) : (
          <ul className={styles.notes}>
            {card.notes.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
        )}
      </Section>
      <Section title="What was tested">
        <dl className={styles.facts}>
          <Fact name="Policy">
            {card.policy.id}, <code>{card.policy.sha256.slice(0, 16)}…</code>
            {card.policy.condition ? ", behind a condition" : ", on every prompt"}
          </Fact>
          <Fact name="Model">
            {card.model.name}, <code>{card.model.fingerprint.slice(0, 16)}…</code>
          </Fact>
          <Fact name="Interventions">{card.policy.interventions.join("; ")}</Fact>
          <Fact name="Seed">{card.seed}</Fact>
          <Fact name="Made from">
            {parents.map((parent) =>
              parent.startsWith("cx_") ? (
                <Link key={parent} href={`/circuits/view?id=${parent}`}>
                  {parent}{" "}
                </Link>
              ) : (
                <code key={parent}>{parent} </code>
              ),
            )}
          </Fact>
          {card.suites.map((suite) => (
            <Fact key={suite.name} name={suite.name}>
              {suite.n} prompts of <code>{suite.dataset}</code>, SHA-256{" "}
              <code>{suite.prompts_sha256.slice(0, 16)}…</code>
            </Fact>
          ))}
        </dl>
      </Section>
    </div>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
