"use client";

import { useMemo } from "react";

import { useMay } from "@/api/session";
import { EmptyState } from "@/ui/EmptyState";
import { Page } from "@/ui/Page";
import { PermissionState } from "@/ui/PermissionState";
import { useUrlState } from "@/ui/url";

import type { RunSettings } from "./pipeline";
import { RunForm } from "./RunForm";
import { RunProgress } from "./RunProgress";

/** The whole job from a page: trace to report, each step a job of its own. */
export function Run() {
  const [query, set] = useUrlState();
  const may = useMay("jobs:write");
  const id = query.get("id");
  const settings = useMemo(() => (id === null ? null : kept(id)), [id]);
  if (!may) return <PermissionState needs="jobs:write" />;
  const begin = (chosen: RunSettings) => {
    const fresh = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
    localStorage.setItem(`run:${fresh}`, JSON.stringify(chosen));
    set({ id: fresh }, { push: true });
  };
  return (
    <Page
      title="Run the pipeline"
      lead="From prompts to the audit report. Each step is a job; it goes on when this page is closed, and the run is at this address."
    >
      {id === null ? (
        <RunForm onBegin={begin} />
      ) : settings === null ? (
        <EmptyState title="This run was begun in another browser">
          <p>Its jobs are among all jobs.</p>
        </EmptyState>
      ) : (
        <RunProgress key={id} id={id} settings={settings} />
      )}
    </Page>
  );
}

function kept(id: string): RunSettings | null {
  const text = localStorage.getItem(`run:${id}`);
  return text === null ? null : (JSON.parse(text) as RunSettings);
}
