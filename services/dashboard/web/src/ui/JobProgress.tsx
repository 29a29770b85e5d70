"use client";

import { useEffect, useState } from "react";

import { edge } from "@/api/client";
import { useLiveJob } from "@/api/jobs";

import { JobBadge } from "./Badge";
import { Button } from "./Button";
import { ErrorState } from "./ErrorState";
import { count, duration, figure } from "./format";
import styles from "./JobProgress.module.css";
import { LinkButton } from "./LinkButton";
import { Loading } from "./Loading";
import { Progress } from "./Progress";

interface JobProgressProps {
  id: string;
  /** Told the artifact that the job made, once it has. */
  onResult: (artifact: string) => void;
  /** Go back to where it was asked for. */
  onLeave: () => void;
}

/** A job as it goes on: its stage, how far it is, and a way to stop it. */
export function JobProgress({ id, onResult, onLeave }: JobProgressProps) {
  const { job, connected, problem, over } = useLiveJob(id);
  const [stopping, setStopping] = useState(false);
  const result = job?.state === "SUCCEEDED" ? job.result : null;
  useEffect(() => {
    if (result) onResult(result);
    // Told once: the callback is another one at every drawing.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [result]);
  if (problem !== null && job === undefined) return <ErrorState problem={problem} compact />;
  if (job === undefined) return <Loading what="the job" />;
  const { progress, error } = job;
  return (
    <div className={styles.job} aria-live="polite">
      <p className={styles.line}>
        <JobBadge state={job.state} stopping={job.cancel_requested} />
        <span className={styles.stage}>
          {progress?.stage ?? (job.state === "QUEUED" ? "waiting for a worker" : "starting")}
        </span>
        {progress && progress.total > 0 && (
          <span className={styles.faint}>
            {count(progress.done)} of {count(progress.total)}
            {progress.seconds_left !== null && progress.seconds_left !== undefined && (
              <>, about {duration(progress.seconds_left)} left</>
            )}
          </span>
        )}
        {!connected && !over && <span className={styles.faint}>connecting again…</span>}
      </p>
      {!over && <Progress label={progress?.stage ?? "job"} done={progress?.done ?? 0} total={progress?.total ?? 0} />}
      {progress && Object.keys(progress.figures ?? {}).length > 0 && (
        <p className={styles.faint}>
          {Object.entries(progress.figures ?? {})
            .map(([name, value]) => `${name} ${figure(value)}`)
            .join(" · ")}
        </p>
      )}
      {error && (
        <ErrorState
          problem={{ type: "about:blank", title: "The job failed", status: 422, detail: error.problem, fix: error.fix }}
          compact
        />
      )}
      <p className={styles.line}>
        {over ? (
          <Button onClick={onLeave}>Back</Button>
        ) : (
          <Button
            busy={stopping}
            disabled={job.cancel_requested}
            onClick={() => {
              setStopping(true);
              void edge
                .POST("/jobs/{job_id}/cancel", { params: { path: { job_id: id } } })
                .finally(() => setStopping(false));
            }}
          >
            Stop
          </Button>
        )}
        <LinkButton href={`/jobs/view?id=${id}`} kind="quiet">
          The job
        </LinkButton>
      </p>
    </div>
  );
}
