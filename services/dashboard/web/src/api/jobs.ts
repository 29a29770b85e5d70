"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { api, asProblem, type Problem, type Schema } from "./client";
import { follow } from "./events";

export type Job = Schema["JobDocument"];
export type JobDetails = Schema["JobDetails"];

export const FINAL = new Set(["SUCCEEDED", "FAILED", "CANCELLED", "DEAD_LETTERED"]);
const FINAL_EVENTS = new Set(["succeeded", "failed", "cancelled", "dead_lettered"]);

/** Something that happened to a job. */
export interface JobEvent {
  id: string;
  type: string;
  at: string;
  body: Record<string, unknown>;
}

/** A job, live: its row, everything that happened to it, and whether the line to it is open. */
export function useLiveJob(id: string | null) {
  const client = useQueryClient();
  const query = api.useQuery(
    "get",
    "/jobs/{job_id}",
    { params: { path: { job_id: id ?? "" } } },
    { enabled: id !== null },
  );
  const [state, setState] = useState<{ id: string | null; events: JobEvent[] }>({ id, events: [] });
  const [connected, setConnected] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);

  useEffect(() => {
    if (id === null) return;
    const stop = new AbortController();
    const key = api.queryOptions("get", "/jobs/{job_id}", {
      params: { path: { job_id: id } },
    }).queryKey;
    follow(`/api/jobs/${id}/events`, {
      signal: stop.signal,
      onOpen: setConnected,
      isLast: (event) => FINAL_EVENTS.has(event.event ?? ""),
      onEvent: (event) => {
        const { at, body } = JSON.parse(event.data) as Pick<JobEvent, "at" | "body">;
        const happened = { id: event.id ?? "", type: event.event ?? "", at, body };
        setState((before) => ({
          id,
          events: before.id === id ? [...before.events, happened] : [happened],
        }));
        if (happened.type === "progress") {
          client.setQueryData<JobDetails>(key, (job) =>
            job && ({ ...job, state: "RUNNING", progress: body } as JobDetails),
          );
        } else {
          void client.invalidateQueries({ queryKey: key });
          void client.invalidateQueries({ queryKey: ["get", "/jobs"] });
        }
      },
    }).catch((error: unknown) => {
      setProblem(asProblem(error));
    });
    return () => stop.abort();
  }, [id, client]);

  return {
    job: query.data,
    events: state.id === id ? state.events : [],
    connected,
    problem: problem ?? query.error ?? null,
    over: query.data !== undefined && FINAL.has(query.data.state),
  };
}
