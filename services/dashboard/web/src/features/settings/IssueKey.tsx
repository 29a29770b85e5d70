"use client";

import { useState, type SubmitEvent } from "react";

import { asProblem, edge, must, type Problem, type Schema } from "@/api/client";
import { useCaller } from "@/api/session";
import { Button } from "@/ui/Button";
import { Dialog, DialogActions } from "@/ui/Dialog";
import { Field } from "@/ui/Field";

import styles from "./Settings.module.css";

type Role = Schema["Role"];

const ROLES: readonly (readonly [Role, string])[] = [
  ["viewer", "viewer: sees results"],
  ["operator", "operator: also runs work and writes policies"],
  ["approver", "approver: also approves and activates policies"],
  ["admin", "admin: also manages keys and the tenant"],
];
const DAY = 86_400;
const LIFETIMES: readonly (readonly [string, number | null])[] = [
  ["30 days", 30 * DAY],
  ["90 days", 90 * DAY],
  ["A year", 365 * DAY],
  ["For ever", null],
];

interface IssueKeyProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  onIssued: (key: Schema["IssuedDocument"]) => void;
}

/** The form for a new key. It can do no more than its issuer. */
export function IssueKey({ open, onOpenChange, onIssued }: IssueKeyProps) {
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title="Issue a key"
      description="For a person or a program. It can do no more than you."
    >
      <Form onIssued={onIssued} onLeave={() => onOpenChange(false)} />
    </Dialog>
  );
}

function Form({ onIssued, onLeave }: { onIssued: IssueKeyProps["onIssued"]; onLeave: () => void }) {
  const { roles } = useCaller();
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("operator");
  const [lifetime, setLifetime] = useState(1);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const highest = Math.max(...ROLES.map(([each], at) => (roles.includes(each) ? at : 0)));

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      const body = { name, roles: [role], lifetime_seconds: LIFETIMES[lifetime]?.[1] ?? null };
      onIssued(must(await edge.POST("/keys", { body })));
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      setBusy(false);
    }
  };
  const ofName = problem?.field === "name" ? "Letters, digits, blanks and . _ @ - only." : undefined;
  return (
    <form className={styles.form} onSubmit={(event) => void submit(event)}>
      <Field label="Name" hint="It stands in the audit log as key:name." error={ofName}>
        {(field) => (
          <input
            {...field}
            required
            maxLength={100}
            autoComplete="off"
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
        )}
      </Field>
      <Field
        label="Role"
        error={problem !== null && ofName === undefined ? problem.detail : undefined}
      >
        {(field) => (
          <select
            {...field}
            value={role}
            onChange={(event) => setRole(event.target.value as Role)}
          >
            {ROLES.slice(0, highest + 1).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field label="It works for">
        {(field) => (
          <select
            {...field}
            value={lifetime}
            onChange={(event) => setLifetime(Number(event.target.value))}
          >
            {LIFETIMES.map(([label], at) => (
              <option key={label} value={at}>
                {label}
              </option>
            ))}
          </select>
        )}
      </Field>
      <DialogActions>
        <Button onClick={onLeave}>Not now</Button>
        <Button type="submit" kind="primary" busy={busy}>
          Issue
        </Button>
      </DialogActions>
    </form>
  );
}
