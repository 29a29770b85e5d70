"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { asProblem, edge, type Problem, type Schema } from "@/api/client";
import { useCaller, useMay, type Scope } from "@/api/session";
import { Badge } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import { Dialog, DialogActions } from "@/ui/Dialog";
import { ErrorState } from "@/ui/ErrorState";
import { useSay } from "@/ui/Toasts";

import styles from "./Policies.module.css";

type Version = Schema["PolicyDetails"];
type Step = "propose" | "approve" | "activate" | "retire" | "roll-back";

interface StepWords {
  label: string;
  needs: Scope;
  title: string;
  says: string;
  done: string;
  danger?: boolean;
}

const WORDS: Record<Step, StepWords> = {
  propose: {
    label: "Ask for approval",
    needs: "policies:write",
    title: "Ask for approval",
    says: "An approver who did not write it looks at it next. Its text cannot change any more.",
    done: "Approval asked for",
  },
  approve: {
    label: "Approve",
    needs: "policies:approve",
    title: "Approve this version",
    says: "You say that it may go into production. Your name stands beside it in the audit log.",
    done: "Approved",
  },
  activate: {
    label: "Activate",
    needs: "policies:activate",
    title: "Put it into production",
    says: "Requests that name this policy run under this version within about a second, in place of the one that is active. Requests that run keep theirs.",
    done: "In production",
  },
  "roll-back": {
    label: "Roll back",
    needs: "policies:activate",
    title: "Roll back",
    says: "The version that was in production before comes back, in place of this one.",
    done: "Rolled back",
    danger: true,
  },
  retire: {
    label: "Retire",
    needs: "policies:activate",
    title: "Retire this version",
    says: "Where it is in production, requests that name the policy fail until another version is activated. A version on its way there is given up.",
    done: "Retired",
    danger: true,
  },
};

const NEXT: Record<string, readonly Step[]> = {
  draft: ["propose", "retire"],
  proposed: ["approve", "retire"],
  approved: ["activate", "retire"],
  active: ["roll-back", "retire"],
  retired: [],
};

/** What can be done with a version, from draft to production and back. */
export function Steps({ version, earlier }: { version: Version; earlier: boolean }) {
  const steps = (NEXT[version.state] ?? []).filter((step) => step !== "roll-back" || earlier);
  return (
    <>
      {steps.map((step, at) => (
        <StepButton key={step} step={step} version={version} primary={at === 0} />
      ))}
    </>
  );
}

function StepButton({ step, version, primary }: { step: Step; version: Version; primary: boolean }) {
  const words = WORDS[step];
  const may = useMay(words.needs);
  const { subject } = useCaller();
  const client = useQueryClient();
  const say = useSay();
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<Problem | null>(null);
  const own = version.author === subject && (step === "approve" || step === "activate");

  // Read anew only now: what was refused may have been decided by somebody else meanwhile, and a step
  // that is no longer to be taken would go with its dialog, before the refusal was read.
  function close() {
    setOpen(false);
    void client.invalidateQueries({ predicate: ({ queryKey }) => String(queryKey[1]).startsWith("/policies") });
  }

  async function go() {
    setBusy(true);
    setRefused(null);
    const answer = await ask(step, version);
    setBusy(false);
    if (answer.error !== undefined) {
      setRefused(asProblem(answer.error));
      return;
    }
    close();
    say.done(`${version.name}, version ${answer.data?.version ?? version.version}: ${words.done.toLowerCase()}`);
  }

  return (
    <>
      <Button
        kind={primary && words.danger !== true ? "primary" : words.danger === true && step === "retire" ? "quiet" : "plain"}
        onClick={() => {
          setRefused(null);
          setOpen(true);
        }}
      >
        {words.label}
      </Button>
      <Dialog
        open={open}
        onOpenChange={(next) => {
          if (!next) close();
        }}
        title={words.title}
        description={`${version.name}, version ${version.version}. ${words.says}`}
      >
        {own && refused === null && (
          <p className={styles.note}>
            <Badge tone="warn">you wrote it</Badge> Another person must {step} it; the platform refuses
            its author, and notes the attempt.
          </p>
        )}
        {!may && refused === null && (
          <p className={styles.note}>
            <Badge tone="warn">not yours to do</Badge> It needs the scope <code>{words.needs}</code>.
          </p>
        )}
        {refused !== null && (
          <div>
            <ErrorState problem={refused} compact />
            {refused.status === 403 && <p className={styles.small}>Nothing was changed.</p>}
          </div>
        )}
        <DialogActions>
          <Button onClick={close}>{refused === null ? "Cancel" : "Close"}</Button>
          <Button kind={words.danger === true ? "danger" : "primary"} busy={busy} onClick={() => void go()}>
            {words.label}
          </Button>
        </DialogActions>
      </Dialog>
    </>
  );
}

/** The version as it is afterwards, or why it was refused. */
async function ask(step: Step, version: Version) {
  // Somebody who looked at an older state decides nothing.
  const header = { "if-match": `"${version.revision}"` };
  const { name } = version;
  if (step === "roll-back") {
    return edge.POST("/policies/{name}/roll-back", { params: { path: { name }, header }, body: {} });
  }
  const path = { name, version: version.version };
  switch (step) {
    case "propose":
      return edge.POST("/policies/{name}/versions/{version}/propose", { params: { path, header } });
    case "approve":
      return edge.POST("/policies/{name}/versions/{version}/approve", { params: { path, header } });
    case "activate":
      return edge.POST("/policies/{name}/versions/{version}/activate", { params: { path, header } });
    case "retire":
      return edge.POST("/policies/{name}/versions/{version}/retire", { params: { path, header } });
  }
}
