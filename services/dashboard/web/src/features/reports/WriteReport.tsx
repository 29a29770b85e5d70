"use client";

import { useQueryClient } from "@tanstack/react-query";
import { FilePlus2 } from "lucide-react";
import { useRouter } from "next/navigation";
import { useEffect, useState } from "react";

import { api, asProblem, edge, must, type Problem } from "@/api/client";
import { useLiveJob } from "@/api/jobs";
import { Button } from "@/ui/Button";
import { Dialog, DialogActions } from "@/ui/Dialog";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { moment, shortId } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Progress } from "@/ui/Progress";

interface WriteReportProps {
  /** The Risk Card it is about; without one, or a circuit, it is chosen. */
  card?: string;
  /** The circuit whose newest Risk Card it is about. */
  circuit?: string;
}

/** The button that writes an audit report, and leads to it once it is written. */
export function WriteReport({ card, circuit }: WriteReportProps) {
  const [open, setOpen] = useState(false);
  const [job, setJob] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const known = card !== undefined || circuit !== undefined;

  const write = async (chosen?: string) => {
    setBusy(true);
    setProblem(null);
    try {
      const body = chosen === undefined ? { circuit_id: circuit ?? null } : { risk_card: chosen };
      const accepted = must(await edge.POST("/report", { body }));
      if (!("id" in accepted)) throw new Error("the platform did not say which job it is");
      setJob(accepted.id);
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      setBusy(false);
    }
  };
  const begin = () => {
    setOpen(true);
    setJob(null);
    if (known) void write(card);
  };
  return (
    <>
      <Button kind="primary" onClick={begin}>
        <FilePlus2 size={15} aria-hidden /> Write a report
      </Button>
      <Dialog open={open} onOpenChange={setOpen} title="Write an audit report">
        {problem ? (
          <ErrorState problem={problem} compact {...(known && { retry: () => void write(card) })} />
        ) : job !== null ? (
          <Writing job={job} />
        ) : known ? (
          <Loading what="the job" />
        ) : (
          <ChooseCard busy={busy} onChoose={(chosen) => void write(chosen)} />
        )}
      </Dialog>
    </>
  );
}

function ChooseCard({ busy, onChoose }: { busy: boolean; onChoose: (card: string) => void }) {
  const cards = api.useQuery("get", "/risk-cards", { params: { query: { limit: 50 } } });
  const [chosen, setChosen] = useState("");
  if (cards.error) return <ErrorState problem={cards.error} compact />;
  if (!cards.data) return <Loading what="Risk Cards" />;
  const first = cards.data.items[0];
  if (first === undefined) {
    return (
      <EmptyState title="There is no Risk Card yet" compact>
        <p>Measure a policy first, under Evaluations.</p>
      </EmptyState>
    );
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onChoose(chosen || first.id);
      }}
    >
      <Field label="About which Risk Card">
        {(field) => (
          <select {...field} value={chosen || first.id} onChange={(e) => setChosen(e.target.value)}>
            {cards.data.items.map(({ id, created_at: at, summary }) => (
              <option key={id} value={id}>
                {[summary.policy, moment(at), shortId(id)].filter(Boolean).join(" · ")}
              </option>
            ))}
          </select>
        )}
      </Field>
      <DialogActions>
        <Button type="submit" kind="primary" busy={busy}>
          Write it
        </Button>
      </DialogActions>
    </form>
  );
}

function Writing({ job: id }: { job: string }) {
  const { job, problem } = useLiveJob(id);
  const router = useRouter();
  const client = useQueryClient();
  const result = job?.state === "SUCCEEDED" ? job.result : null;
  useEffect(() => {
    if (!result) return;
    void client.invalidateQueries({ queryKey: ["get", "/reports"] });
    router.push(`/reports/view?id=${result}`);
  }, [result, router, client]);
  if (problem) return <ErrorState problem={problem} compact />;
  if (job?.error && job.state !== "RUNNING") {
    return <ErrorState problem={{ ...job.error, detail: job.error.problem, status: 0 }} compact />;
  }
  return (
    <div role="status">
      <p>{job?.progress?.stage ?? "Waiting for a worker"}…</p>
      <Progress label="Writing the report" done={job?.progress?.done ?? 0} total={job?.progress?.total ?? 0} />
    </div>
  );
}
