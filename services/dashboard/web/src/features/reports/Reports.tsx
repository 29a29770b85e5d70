"use client";

import { api, type Schema } from "@/api/client";
import { useMay } from "@/api/session";
import { ArtifactLink } from "@/ui/ArtifactLink";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { bytes } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { More, PAGED } from "@/ui/More";
import { Page, Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";
import { WriteReport } from "./WriteReport";

const COLUMNS: readonly Column<Schema["ArtifactDocument"]>[] = [
  { head: "Report", cell: ({ id }) => <ArtifactLink id={id} /> },
  {
    head: "About",
    cell: ({ parents }) => parents.map((parent) => <ArtifactLink key={parent} id={parent} />),
  },
  { head: "Model", cell: ({ model }) => model ?? "–", wide: true },
  { head: "Size", cell: ({ size }) => bytes(size), number: true },
  { head: "Written", cell: ({ created_at: at }) => <Ago at={at} /> },
];

/** Audit reports, and the button that writes one. */
export function Reports() {
  const reports = api.useInfiniteQuery("get", "/reports", { params: { query: { limit: 50 } } }, PAGED);
  const may = useMay("jobs:write");
  const rows = reports.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <Page
      title="Reports"
      lead="The audit as a PDF: figures, interventions, lineage, and the evidence for each privacy principle."
      actions={may && <WriteReport />}
    >
      <Section title="Newest first">
        {reports.error ? (
          <ErrorState problem={reports.error} retry={() => void reports.refetch()} compact />
        ) : !reports.data ? (
          <Loading what="reports" />
        ) : rows.length === 0 ? (
          <EmptyState title="No report yet" compact>
            <p>A report is written about a Risk Card: measure a policy first, then write it here.</p>
          </EmptyState>
        ) : (
          <>
            <Table caption="Reports" columns={COLUMNS} rows={rows} id={({ id }) => id} />
            <More query={reports} />
          </>
        )}
      </Section>
    </Page>
  );
}
