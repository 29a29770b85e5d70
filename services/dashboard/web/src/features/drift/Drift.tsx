"use client";

import Link from "next/link";

import { api, type Schema } from "@/api/client";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { count, figure, percent } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { useUrlState } from "@/ui/url";

import { Alarms } from "./Alarms";
import { PolicyDrift } from "./PolicyDrift";
import { Verdict } from "./Verdict";

type Row = Schema["DriftDocument"];

/** Whether policies in production still see what they were fitted on. */
export function Drift() {
  const [query, set] = useUrlState();
  const drift = api.useQuery("get", "/drift");
  const rows = drift.data?.items ?? [];
  const chosen = query.get("policy") ?? rows[0]?.policy;
  const columns: readonly Column<Row>[] = [
    {
      head: "Policy",
      cell: ({ policy, version }) => (
        <a
          href={`?policy=${policy}`}
          aria-current={policy === chosen || undefined}
          onClick={(event) => {
            event.preventDefault();
            set({ policy }, { push: true });
          }}
        >
          {policy}@{version}
        </a>
      ),
    },
    { head: "Verdict", cell: ({ report }) => <Verdict of={report.verdict} /> },
    { head: "Model", cell: ({ model }) => model, wide: true },
    { head: "Requests", cell: ({ report }) => count(report.requests), number: true },
    {
      head: "Scores: PSI",
      cell: ({ report }) => (report.score ? figure(report.score.psi, 2) : "–"),
      number: true,
    },
    {
      head: "It acts on",
      cell: ({ report: { condition } }) =>
        condition ? `${percent(condition.reference, 1)} → ${percent(condition.window, 1)}` : "–",
      number: true,
    },
  ];
  return (
    <Page
      title="Drift"
      lead="What policies in production see of their traffic, against what they were fitted on. Nothing is kept of requests but counts."
    >
      <Alarms />
      <Section title="Policies in production" actions={<Link href="/circuits">Compare circuits</Link>}>
        {drift.error ? (
          <ErrorState problem={drift.error} retry={() => void drift.refetch()} compact />
        ) : !drift.data ? (
          <Loading what="drift" />
        ) : rows.length === 0 ? (
          <EmptyState title="No policy is in production" compact>
            <p>Once one is active, what it sees of its traffic is compared with its fit.</p>
          </EmptyState>
        ) : (
          <Table
            caption="Policies in production"
            columns={columns}
            rows={rows}
            id={({ policy }) => policy}
            selected={({ policy }) => policy === chosen}
          />
        )}
      </Section>
      {chosen !== undefined && <PolicyDrift key={chosen} name={chosen} />}
    </Page>
  );
}
