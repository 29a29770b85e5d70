"use client";

import { useState, type SubmitEvent } from "react";

import { api, type Schema } from "@/api/client";
import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import filters from "@/ui/Filters.module.css";
import { moment } from "@/ui/format";
import { Json } from "@/ui/Json";
import { Loading } from "@/ui/Loading";
import { More, PAGED } from "@/ui/More";
import { Page, Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { useUrlState } from "@/ui/url";

import styles from "./AuditLog.module.css";
import { Chain } from "./Chain";

type Entry = Schema["AuditDocument"];

const COLUMNS: readonly Column<Entry>[] = [
  { head: "Entry", cell: ({ seq }) => seq, number: true },
  { head: "When", cell: ({ at }) => moment(at) },
  { head: "Who", cell: ({ actor }) => actor },
  { head: "Did", cell: ({ action }) => <code>{action}</code> },
  { head: "To", cell: ({ target }) => target },
  {
    head: "Details",
    wide: true,
    cell: ({ body, hash, previous_hash: previous, seq }) => (
      <details className={styles.details}>
        <summary>{short(body)}</summary>
        <Json value={{ ...body, hash, previous_hash: previous }} label={`Entry ${seq}`} />
      </details>
    ),
  },
];
const NAMES = ["actor", "action", "target"] as const;

/** Who did what, in a chain that nobody can change unnoticed. */
export function AuditLog() {
  const [query] = useUrlState();
  const wanted = Object.fromEntries(
    NAMES.map((name) => [name, query.get(name)]).filter(([, value]) => value),
  ) as Partial<Record<(typeof NAMES)[number], string>>;
  const log = api.useInfiniteQuery(
    "get",
    "/audit",
    { params: { query: { limit: 50, ...wanted } } },
    PAGED,
  );
  const entries = log.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <Page title="Audit log" lead="Who did what. Each entry carries the hash of the one before it.">
      <Chain />
      <Section title="Entries, newest first">
        <Filters key={JSON.stringify(wanted)} wanted={wanted} entries={entries} />
        {log.error ? (
          <ErrorState problem={log.error} retry={() => void log.refetch()} compact />
        ) : !log.data ? (
          <Loading what="the audit log" />
        ) : entries.length === 0 ? (
          <EmptyState title="No entry is like that" compact>
            <p>Names are compared as a whole: who as key:ada, what as policy.activate.</p>
          </EmptyState>
        ) : (
          <>
            <Table
              caption="Audit log"
              columns={COLUMNS}
              rows={entries}
              id={({ seq }) => String(seq)}
            />
            <More query={log} />
          </>
        )}
      </Section>
    </Page>
  );
}

interface FiltersProps {
  wanted: Partial<Record<(typeof NAMES)[number], string>>;
  entries: readonly Entry[];
}

const LABELS = { actor: "Who", action: "Did", target: "To" };
const HINTS = { actor: "key:ada", action: "policy.activate", target: "jailbreak-v1" };

/** The filters; what was seen is suggested. */
function Filters({ wanted, entries }: FiltersProps) {
  const [, set] = useUrlState();
  const [typed, setTyped] = useState(wanted);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    set(Object.fromEntries(NAMES.map((name) => [name, typed[name]?.trim()])));
  };
  return (
    <form className={`${filters.filters} ${styles.form}`} onSubmit={submit}>
      {NAMES.map((name) => (
        <Field key={name} label={LABELS[name]}>
          {(field) => (
            <>
              <input
                {...field}
                list={`${field.id}-seen`}
                value={typed[name] ?? ""}
                placeholder={HINTS[name]}
                onChange={(event) => setTyped({ ...typed, [name]: event.target.value })}
              />
              <datalist id={`${field.id}-seen`}>
                {[...new Set(entries.map((entry) => entry[name]))].map((value) => (
                  <option key={value} value={value} />
                ))}
              </datalist>
            </>
          )}
        </Field>
      ))}
      <div className={styles.buttons}>
        <Button type="submit">Filter</Button>
        {Object.keys(wanted).length > 0 && (
          <Button kind="quiet" onClick={() => set({ actor: null, action: null, target: null })}>
            Show all
          </Button>
        )}
      </div>
    </form>
  );
}

function short(body: Record<string, unknown>): string {
  const parts = Object.entries(body).map(
    ([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  const text = parts.join(", ") || "hashes";
  return text.length > 90 ? `${text.slice(0, 89)}…` : text;
}
