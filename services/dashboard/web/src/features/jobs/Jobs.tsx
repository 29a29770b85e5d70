"use client";

import { api } from "@/api/client";
import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";

import { JobTable } from "./JobTable";

/** All jobs. */
export function Jobs() {
  const jobs = api.useQuery("get", "/jobs", { params: { query: { limit: 50 } } });
  return (
    <Page title="Jobs" lead="Long work: how far it is, what it made, and why it did not.">
      <Section title="Newest first">
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
