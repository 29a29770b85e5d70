"use client";

import { CircleCheck, Circle, CircleX, LoaderCircle } from "lucide-react";
import Link from "next/link";

import { FINAL } from "@/api/jobs";
import { ArtifactLink } from "@/ui/ArtifactLink";
import { ErrorState } from "@/ui/ErrorState";
import { count, duration } from "@/ui/format";
import { Section } from "@/ui/Page";
import { Progress } from "@/ui/Progress";

import { STEPS, type RunSettings } from "./pipeline";
import styles from "./Run.module.css";
import { useRun } from "./useRun";

/** The steps of a run, as they are taken. */
export function RunProgress({ id, settings }: { id: string; settings: RunSettings }) {
  const { jobs, made, problem, done } = useRun(id, settings);
  return (
    <Section title={done ? "Done" : "Steps"}>
      <ol className={styles.steps} aria-live="polite">
        {STEPS.map(({ name, title, what }) => {
          const job = jobs[name];
          const result = made[name];
          const failed = job !== undefined && FINAL.has(job.state) && job.state !== "SUCCEEDED";
          return (
            <li key={name} data-state={result ? "made" : failed ? "failed" : job ? "running" : "waiting"}>
              <Sign made={result !== undefined} failed={failed} running={job !== undefined} />
              <div>
                <p className={styles.stepTitle}>
                  <b>{title}</b> <span className={styles.faint}>{what}</span>
                </p>
                {result && (job ? <ArtifactLink id={result} /> : result)}
                {job && !result && !failed && (
                  <div className={styles.progress}>
                    <span className={styles.faint}>
                      {job.progress?.stage ?? "waiting for a worker"}
                      {job.progress &&
                        job.progress.total > 0 &&
                        ` · ${count(job.progress.done)} of ${count(job.progress.total)}`}
                      {job.progress?.seconds_left != null &&
                        ` · about ${duration(job.progress.seconds_left)} left`}
                    </span>
                    <Progress label={title} done={job.progress?.done ?? 0} total={job.progress?.total ?? 0} />
                  </div>
                )}
                {failed && (
                  <p className={styles.failed}>
                    {job.error?.problem ?? job.state.toLowerCase()}. {job.error?.fix}
                  </p>
                )}
                {job && (
                  <Link className={styles.job} href={`/jobs/view?id=${job.id}`}>
                    the job
                  </Link>
                )}
              </div>
            </li>
          );
        })}
      </ol>
      {problem && <ErrorState problem={problem} compact />}
    </Section>
  );
}

function Sign({ made, failed, running }: { made: boolean; failed: boolean; running: boolean }) {
  if (made) return <CircleCheck size={19} role="img" aria-label="done" className={styles.good} />;
  if (failed) return <CircleX size={19} role="img" aria-label="failed" className={styles.bad} />;
  if (running) return <LoaderCircle size={19} role="img" aria-label="running" className={styles.spin} />;
  return <Circle size={19} role="img" aria-label="waiting" className={styles.faint} />;
}
