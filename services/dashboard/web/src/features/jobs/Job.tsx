"use client";

import { useQueryClient } from "@tanstack/react-query";
import { Download, RotateCcw, Square } from "lucide-react";
import { useRouter } from "next/navigation";
import { useState } from "react";

import { api, edge, must } from "@/api/client";
import { useLiveJob, type JobDetails } from "@/api/jobs";
import { useMay } from "@/api/session";
import { ArtifactLink } from "@/ui/ArtifactLink";
import { JobBadge } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import button from "@/ui/Button.module.css";
import { Copy } from "@/ui/Copy";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Facts } from "@/ui/Facts";
import { count, duration, figure, moment } from "@/ui/format";
import { Json } from "@/ui/Json";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Progress } from "@/ui/Progress";
import { useSay } from "@/ui/Toasts";
import { useUrlState } from "@/ui/url";

import styles from "./Job.module.css";
import { JobLog } from "./JobLog";
import { kindName } from "./kinds";

/** One job as it goes: progress, figures, log, result or error, and what was asked for. */
export function Job() {
  const [query] = useUrlState();
  const id = query.get("id");
  const { job, events, connected, problem, over } = useLiveJob(id);
  if (id === null) return <EmptyState alone title="No job is named in the address" />;
  if (job === undefined) {
    return problem ? <ErrorState problem={problem} /> : <Loading what="the job" />;
  }
  return (
    <Page
      title={
        <span className={styles.title}>
          {kindName(job.kind)}
          <JobBadge state={job.state} stopping={job.cancel_requested} />
        </span>
      }
      lead={<Copy text={job.id} what="the job's id" />}
      actions={<Actions job={job} over={over} />}
    >
      <Outcome job={job} over={over} />
      <Section title="Facts">
        <Facts facts={facts(job)} />
      </Section>
      <Section
        title="Log"
        actions={
          <span className={styles.logActions}>
            <Line connected={connected} over={over} />
            <a
              className={`${button.button} ${button.plain} ${button.small}`}
              href={`/api/jobs/${job.id}/log`}
              download={`${job.id}.log`}
            >
              <Download size={14} aria-hidden /> Download
            </a>
          </span>
        }
      >
        <JobLog events={events} />
      </Section>
      <Section title="What was asked for">
        <Json value={job.spec} label="The request" />
      </Section>
    </Page>
  );
}

/** Whether the line to the platform is open. */
function Line({ connected, over }: { connected: boolean; over: boolean }) {
  const said = over ? "complete" : connected ? "live" : "connecting again…";
  return (
    <span role="status" className={styles.line} data-state={over ? "over" : connected ? "live" : "lost"}>
      {said}
    </span>
  );
}

function Outcome({ job, over }: { job: JobDetails; over: boolean }) {
  const { progress, error } = job;
  return (
    <Section title={over ? "Outcome" : "Progress"}>
      {job.state === "SUCCEEDED" && (
        <p>{job.result ? <>It made {<ArtifactLink id={job.result} />}.</> : "Done."}</p>
      )}
      {job.state === "QUEUED" && <p className={styles.faint}>Waiting for a worker.</p>}
      {!over && progress && (
        <div className={styles.progress}>
          <p>
            {progress.stage}
            <span className={styles.faint}>
              {progress.total > 0 && ` · ${count(progress.done)} of ${count(progress.total)}`}
              {progress.seconds_left != null && ` · about ${duration(progress.seconds_left)} left`}
            </span>
          </p>
          <Progress label={progress.stage} done={progress.done} total={progress.total} />
        </div>
      )}
      {progress && Object.keys(progress.figures ?? {}).length > 0 && (
        <div className={styles.figures}>
          <Facts
            facts={Object.entries(progress.figures ?? {}).map(([name, value]) => [
              name.replaceAll("_", " "),
              figure(value),
            ])}
          />
        </div>
      )}
      {error && (
        <div className={styles.error} role={over ? "alert" : undefined}>
          <p>
            <strong>{over ? error.problem : `Attempt ${error.attempt ?? ""}: ${error.problem}`}</strong>
          </p>
          <p>{error.fix}</p>
          {error.field && (
            <p>
              Field <code>{error.field}</code>
            </p>
          )}
        </div>
      )}
    </Section>
  );
}

function Actions({ job, over }: { job: JobDetails; over: boolean }) {
  const may = useMay("jobs:write");
  const router = useRouter();
  const client = useQueryClient();
  const say = useSay();
  const [busy, setBusy] = useState(false);
  const path = { params: { path: { job_id: job.id } } };

  const act = async (action: () => Promise<void>) => {
    setBusy(true);
    try {
      await action();
      await client.invalidateQueries({ queryKey: api.queryOptions("get", "/jobs/{job_id}", path).queryKey });
    } catch (error) {
      say.failed(error);
    } finally {
      setBusy(false);
    }
  };
  if (!may || job.state === "SUCCEEDED") return null;
  if (!over) {
    return (
      <Button
        kind="danger"
        busy={busy}
        disabled={job.cancel_requested}
        onClick={() =>
          void act(async () => {
            must(await edge.POST("/jobs/{job_id}/cancel", path));
            say.done("It stops at its next step");
          })
        }
      >
        <Square size={14} aria-hidden /> Stop
      </Button>
    );
  }
  return (
    <Button
      kind="primary"
      busy={busy}
      onClick={() =>
        void act(async () => {
          const again = must(await edge.POST("/jobs/{job_id}/retry", path));
          say.done("A new job goes on from its last checkpoint");
          router.push(`/jobs/view?id=${again.id}`);
        })
      }
    >
      <RotateCcw size={14} aria-hidden /> Try again
    </Button>
  );
}

function facts(job: JobDetails): [string, React.ReactNode][] {
  const { started_at: started, finished_at: finished } = job;
  const seconds =
    started && finished ? (new Date(finished).getTime() - new Date(started).getTime()) / 1000 : null;
  return [
    ["Asked by", job.created_by],
    ["Asked", moment(job.created_at)],
    ["Started", started ? moment(started) : "not yet"],
    ["Ended", finished ? moment(finished) : "not yet"],
    ...(seconds === null ? [] : [["Took", duration(seconds)] as [string, string]]),
    ["Attempts", `${job.attempt} of at most ${job.max_attempts}`],
  ];
}
