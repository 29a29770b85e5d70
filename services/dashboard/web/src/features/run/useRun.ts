"use client";

import { useEffect, useState } from "react";

import { asProblem, edge, must, type Problem, type Schema } from "@/api/client";
import { follow } from "@/api/events";
import { FINAL } from "@/api/jobs";

import { STEPS, type Made, type RunSettings, type StepName } from "./pipeline";

type Job = Schema["JobDocument"];

export interface RunState {
  jobs: Partial<Record<StepName, Job>>;
  made: Made;
  problem: Problem | null;
  done: boolean;
}

const NOTHING: RunState = { jobs: {}, made: {}, problem: null, done: false };
const FINAL_EVENTS = new Set(["succeeded", "failed", "cancelled", "dead_lettered"]);

/** Take the steps one after the other.
 *
 * Each is submitted under a key made of the run's id: whoever opens the run again finds the jobs it
 * has, and goes on where it was. The work itself goes on whether or not somebody looks.
 */
export function useRun(id: string | null, settings: RunSettings | null): RunState {
  const [state, setState] = useState(NOTHING);
  useEffect(() => {
    if (id === null || settings === null) return;
    const stop = new AbortController();
    const { signal } = stop;
    const show = (change: (before: RunState) => RunState) => {
      if (!signal.aborted) setState(change);
    };
    const take = async () => {
      const made: Made = {};
      for (const step of STEPS) {
        const given = step.given?.(settings);
        if (given) {
          made[step.name] = given;
          show((before) => ({ ...before, made: { ...made } }));
          continue;
        }
        let job = await step.submit(settings, made, `run:${id}:${step.name}`);
        const see = (seen: Job) => {
          job = seen;
          show((before) => ({ ...before, jobs: { ...before.jobs, [step.name]: seen } }));
        };
        see(job);
        if (!FINAL.has(job.state)) {
          await follow(`/api/jobs/${job.id}/events`, {
            signal,
            isLast: ({ event }) => FINAL_EVENTS.has(event ?? ""),
            onEvent: ({ event, data }) => {
              if (event !== "progress") return;
              const { body } = JSON.parse(data) as { body: Job["progress"] };
              see({ ...job, state: "RUNNING", progress: body });
            },
          });
          if (signal.aborted) return;
        }
        const path = { params: { path: { job_id: job.id } } };
        see(must(await edge.GET("/jobs/{job_id}", path)));
        if (job.state !== "SUCCEEDED" || !job.result) return;
        made[step.name] = job.result;
        show((before) => ({ ...before, made: { ...made } }));
      }
      show((before) => ({ ...before, done: true }));
    };
    take().catch((error: unknown) => {
      show((before) => ({ ...before, problem: asProblem(error) }));
    });
    return () => {
      stop.abort();
      setState(NOTHING);
    };
  }, [id, settings]);
  return state;
}
