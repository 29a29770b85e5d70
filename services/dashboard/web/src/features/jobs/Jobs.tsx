"use client";

import { Play } from "lucide-react";
import Link from "next/link";

import { api } from "@/api/client";
import { FINAL, type Job } from "@/api/jobs";
import { useMay } from "@/api/session";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import filters from "@/ui/Filters.module.css";
import button from "@/ui/Button.module.css";
import { Loading } from "@/ui/Loading";
import { More, PAGED } from "@/ui/More";
import { Page, Section } from "@/ui/Page";
import { useUrlState } from "@/ui/url";

import { JobTable } from "./JobTable";
import { KINDS, STATES } from "./kinds";

/** All jobs, newest first; what runs is looked at again every other second. */
export function Jobs() {
  const [query, set] = useUrlState();
  const state = STATES.find(({ value }) => value === query.get("state"))?.value;
  const kind = KINDS.find(({ value }) => value === query.get("kind"))?.value;
  const may = useMay("jobs:write");
  const jobs = api.useInfiniteQuery(
    "get",
    "/jobs",
    {
      params: {
        query: { limit: 50, ...(state && { state: [state] }), ...(kind && { kind: [kind] }) },
      },
    },
    {
      ...PAGED,
      refetchInterval: ({ state: { data } }) =>
        data?.pages.some(({ items }) => items.some((job) => !FINAL.has(job.state))) ? 2_000 : 10_000,
    },
  );
  const items: readonly Job[] = jobs.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <Page
      title="Jobs"
      lead="Long work: how far it is, what it made, and why it did not."
      actions={
        may && (
          <Link href="/run" className={`${button.button} ${button.primary}`}>
            <Play size={15} aria-hidden /> Run the pipeline
          </Link>
        )
      }
    >
      <div className={filters.filters}>
        <Field label="State">
          {(field) => (
            <select {...field} value={state ?? ""} onChange={(e) => set({ state: e.target.value })}>
              <option value="">Any</option>
              {STATES.map(({ value, label }) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Work">
          {(field) => (
            <select {...field} value={kind ?? ""} onChange={(e) => set({ kind: e.target.value })}>
              <option value="">Any</option>
              {KINDS.map(({ value, label }) => (
                <option key={value} value={value}>
                  {label}
                </option>
              ))}
            </select>
          )}
        </Field>
      </div>
      <Section title="Newest first">
        {jobs.error ? (
          <ErrorState problem={jobs.error} retry={() => void jobs.refetch()} compact />
        ) : jobs.data ? (
          <>
            <JobTable jobs={items} filtered={state !== undefined || kind !== undefined} />
            <More query={jobs} />
          </>
        ) : (
          <Loading what="jobs" />
        )}
      </Section>
    </Page>
  );
}
