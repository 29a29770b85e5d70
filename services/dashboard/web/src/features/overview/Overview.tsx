"use client";

import Link from "next/link";

import { api } from "@/api/client";
import { FINAL } from "@/api/jobs";
import { JobTable } from "@/features/jobs/JobTable";
import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";

import { Attention } from "./Attention";
import { Models } from "./Models";
import styles from "./Overview.module.css";
import { WinLine } from "./WinLine";

/** The first page: what waits for somebody, how well policies do, what is active, what runs. */
export function Overview() {
  const jobs = api.useQuery(
    "get",
    "/jobs",
    { params: { query: { limit: 8 } } },
    {
      refetchInterval: ({ state: { data } }) =>
        data?.items.some((job) => !FINAL.has(job.state)) ? 2_000 : 15_000,
    },
  );
  return (
    <Page title="Overview">
      <Attention />
      <WinLine />
      <div className={styles.columns}>
        <Models />
        <Section title="Latest jobs" actions={<Link href="/jobs">All jobs</Link>}>
          {jobs.error ? (
            <ErrorState problem={jobs.error} retry={() => void jobs.refetch()} compact />
          ) : jobs.data ? (
            <JobTable jobs={jobs.data.items} />
          ) : (
            <Loading what="jobs" />
          )}
        </Section>
      </div>
    </Page>
  );
}
