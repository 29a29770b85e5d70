"use client";

import { Page, Section } from "@/ui/Page";
import { JobTable } from "@/features/jobs/JobTable";
import { api } from "@/api/client";
import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";

/** The first page: what is active, how well it does, what runs, and what waits for somebody. */
export function Overview() {
  const jobs = api.useQuery("get", "/jobs", { params: { query: { limit: 8 } } });
  return (
    <Page title="Overview" lead="What is active, how well it does, and what waits for somebody.">
      <Section title="Latest jobs">
        {jobs.error ? (
          <ErrorState problem={jobs.error} retry={() => void jobs.refetch()} compact />
        ) : jobs.data ? (
          <JobTable jobs={jobs.data.items} />
        ) : (
          <Loading what="jobs" />
        )}
      </Section>
    </Page>
  );
}
