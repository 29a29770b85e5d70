"use client";

import Link from "next/link";
import { useState, type SyntheticEvent } from "react";

import { api, asProblem, edge, type Problem } from "@/api/client";
import { useMay } from "@/api/session";
import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { formReader } from "@/ui/form";
import { percent, shortId } from "@/ui/format";
import { JobProgress } from "@/ui/JobProgress";
import { Page, Section } from "@/ui/Page";
import { Table } from "@/ui/Table";
import { Ago } from "@/ui/Time";
import { useUrlState } from "@/ui/url";

import { Evidence } from "./Fit";
import styles from "./Policies.module.css";

/** Fit a policy to a circuit, and choose from what the fit could give. */
export function ProposePage() {
  const [query, set] = useUrlState();
  const job = query.get("job");
  const fit = query.get("fit");
  return (
    <Page
      title="Propose a policy"
      lead="A condition that finds the risk in a prompt, and the weakest intervention that averts it. What comes out is a choice of points, each measured."
    >
      {fit !== null ? (
        <>
          <Evidence key={fit} artifact={fit} />
          <p>
            <Button onClick={() => set({ fit: null, job: null })}>Choose another fit</Button>
          </p>
        </>
      ) : job !== null ? (
        <Section title="Fitting">
          <JobProgress
            id={job}
            onResult={(result) => set({ fit: result, job: null })}
            onLeave={() => set({ job: null })}
          />
        </Section>
      ) : (
        <>
          <Form circuit={query.get("circuit")} onJob={(id) => set({ job: id }, { push: true })} />
          <Fits onOpen={(id) => set({ fit: id }, { push: true })} />
        </>
      )}
    </Page>
  );
}

function Form({ circuit, onJob }: { circuit: string | null; onJob: (id: string) => void }) {
  const circuits = api.useQuery("get", "/circuits", {
    params: { query: { limit: 100, form: "contrast" } }, // an imported graph has no units to steer by
  });
  const may = useMay("jobs:write");
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<Problem | null>(null);

  async function submit(event: SyntheticEvent<HTMLFormElement>) {
    event.preventDefault();
    const text = formReader(event.currentTarget);
    setBusy(true);
    setRefused(null);
    const answer = await edge.POST("/policies/propose", {
      body: {
        circuit: text("circuit") || null,
        spec: {
          policy_id: text("name"),
          false_positive_budget: Number(text("budget")) / 100,
          check_prompts: Number(text("check")),
          fit_prompts: Number(text("fit")),
        },
      },
    });
    setBusy(false);
    if (answer.error !== undefined) {
      setRefused(asProblem(answer.error));
      return;
    }
    onJob((answer.data as { id: string }).id);
  }

  return (
    <Section title="What to fit">
      {refused !== null && <ErrorState problem={refused} compact />}
      <form onSubmit={(event) => void submit(event)} className={styles.form}>
        <Field label="Circuit" hint="Its units are preferred; the dictionary it was found with is used.">
          {(field) => (
            <select {...field} name="circuit" defaultValue={circuit ?? circuits.data?.items[0]?.id} key={circuits.data?.items.length}>
              {circuits.data?.items.map((one) => (
                <option key={one.id} value={one.id}>
                  {[shortId(one.id), one.summary.risk_class, `${one.summary.units as number} units`].join(" · ")}
                </option>
              ))}
              <option value="">none: by the prompts alone</option>
            </select>
          )}
        </Field>
        <Field label="Name of the policy" hint="A new version of it, where it is there already.">
          {(field) => (
            <input {...field} name="name" required defaultValue="jailbreak-v1" pattern="[a-z0-9][a-z0-9._\-]{0,63}" />
          )}
        </Field>
        <Field label="Harmless prompts it may fire on, %" hint="The fit's own choice; other budgets are measured as well.">
          {(field) => <input {...field} name="budget" type="number" required min="0.1" max="49" step="any" defaultValue="4" />}
        </Field>
        <Field label="Prompts to fit on">
          {(field) => <input {...field} name="fit" type="number" required min="1" max="1000" defaultValue="32" />}
        </Field>
        <Field label="Prompts to check on" hint="More of them make intervals narrower, and take longer.">
          {(field) => <input {...field} name="check" type="number" required min="1" max="1000" defaultValue="32" />}
        </Field>
        <div className={styles.formEnd}>
          <Button type="submit" kind="primary" busy={busy} disabled={!may}>
            Fit
          </Button>
        </div>
      </form>
    </Section>
  );
}

function Fits({ onOpen }: { onOpen: (id: string) => void }) {
  const found = api.useQuery("get", "/artifacts", {
    params: { query: { kind: ["policy"], limit: 50 } },
  });
  const fits = found.data?.items.filter(({ summary }) => "averted" in summary) ?? [];
  return (
    <Section title="Fitted before">
      {found.error ? (
        <ErrorState problem={found.error} compact />
      ) : fits.length === 0 ? (
        <EmptyState title="No fits yet" compact />
      ) : (
        <Table
          caption="Fits"
          rows={fits}
          id={({ id }) => id}
          columns={[
            { head: "Fit", cell: ({ id }) => <code>{shortId(id)}</code> },
            { head: "Policy", cell: ({ summary }) => String(summary.policy), wide: true },
            {
              head: "Averts, where it acts",
              number: true,
              cell: ({ summary }) => percent(Number(summary.averted)),
            },
            {
              head: "Fires on harmless",
              number: true,
              cell: ({ summary }) => percent(Number(summary.false_positives), 1),
            },
            { head: "Made", cell: ({ created_at: at }) => <Ago at={at} /> },
            {
              head: <span className="visually-hidden">What can be done</span>,
              cell: ({ id }) => (
                <Button small onClick={() => onOpen(id)}>
                  Choose a point
                </Button>
              ),
            },
          ]}
        />
      )}
      <p className={styles.small}>
        Or <Link href="/policies/edit">write one by hand</Link>.
      </p>
    </Section>
  );
}
