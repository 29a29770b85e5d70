"use client";

import Link from "next/link";

import type { Job } from "@/api/jobs";
import { ArtifactLink } from "@/ui/ArtifactLink";
import { JobBadge } from "@/ui/Badge";
import { EmptyState } from "@/ui/EmptyState";
import { duration, shortId } from "@/ui/format";
import { Progress } from "@/ui/Progress";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";

import styles from "./JobTable.module.css";
import { kindName } from "./kinds";

const COLUMNS: readonly Column<Job>[] = [
  {
    head: "Job",
    cell: (job) => (
      <Link href={`/jobs/view?id=${job.id}`} title={job.id} prefetch={false}>
        {shortId(job.id)}
      </Link>
    ),
  },
  { head: "Work", cell: (job) => kindName(job.kind) },
  { head: "State", cell: (job) => <JobBadge state={job.state} stopping={job.cancel_requested} /> },
  { head: "How far", cell: (job) => <HowFar job={job} />, wide: true },
  { head: "Asked by", cell: (job) => job.created_by, minor: true },
  { head: "Asked", cell: (job) => <Ago at={job.created_at} /> },
];

/** Jobs as rows. */
export function JobTable({ jobs, filtered = false }: { jobs: readonly Job[]; filtered?: boolean }) {
  if (jobs.length === 0) {
    return filtered ? (
      <EmptyState title="No job is like that" compact />
    ) : (
      <EmptyState title="No jobs yet" compact>
        <p>A job is one step of the work: a trace, a circuit, an evaluation.</p>
      </EmptyState>
    );
  }
  return <Table caption="Jobs" columns={COLUMNS} rows={jobs} id={(job) => job.id} />;
}

function HowFar({ job }: { job: Job }) {
  const { progress, state } = job;
  if (state === "SUCCEEDED" && job.result) {
    return (
      <span className={styles.far}>
        <ArtifactLink id={job.result} />
        {job.started_at && job.finished_at && (
          <span className={styles.faint}>in {took(job.started_at, job.finished_at)}</span>
        )}
      </span>
    );
  }
  if (job.error && state !== "RUNNING") {
    return <span className={styles.problem}>{job.error.problem}</span>;
  }
  if (state === "RUNNING" && progress) {
    return (
      <span className={styles.running}>
        <span>
          {progress.stage}
          {progress.seconds_left != null && (
            <span className={styles.faint}> · about {duration(progress.seconds_left)} left</span>
          )}
        </span>
        <Progress label={progress.stage} done={progress.done} total={progress.total} />
      </span>
    );
  }
  return null;
}

function took(from: string, to: string): string {
  return duration((new Date(to).getTime() - new Date(from).getTime()) / 1000);
}
