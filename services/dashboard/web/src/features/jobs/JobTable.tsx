"use client";

import Link from "next/link";

import type { Job } from "@/api/jobs";
import { JobBadge } from "@/ui/Badge";
import { EmptyState } from "@/ui/EmptyState";
import { shortId } from "@/ui/format";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";

import { kindName } from "./kinds";

const COLUMNS: readonly Column<Job>[] = [
  { head: "Job", cell: (job) => <Link href={`/jobs/view?id=${job.id}`}>{shortId(job.id)}</Link> },
  { head: "Work", cell: (job) => kindName(job.kind), wide: true },
  { head: "State", cell: (job) => <JobBadge state={job.state} stopping={job.cancel_requested} /> },
  { head: "Asked by", cell: (job) => job.created_by, minor: true },
  { head: "Asked", cell: (job) => <Ago at={job.created_at} /> },
];

/** Jobs as rows. */
export function JobTable({ jobs }: { jobs: readonly Job[] }) {
  if (jobs.length === 0) return <EmptyState title="No jobs yet" compact />;
  return <Table caption="Jobs" columns={COLUMNS} rows={jobs} id={(job) => job.id} />;
}
