"use client";

import { useRouter } from "next/navigation";
import { useState, type SyntheticEvent } from "react";

import { api, asProblem, edge, type Problem } from "@/api/client";
import { useMay } from "@/api/session";
import { PolicyChoice } from "@/features/playground/PolicyChoice";
import { Button } from "@/ui/Button";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { formReader } from "@/ui/form";
import { JobProgress } from "@/ui/JobProgress";
import { Page, Section } from "@/ui/Page";
import { useUrlState } from "@/ui/url";

import type { RiskCard } from "./card";
import styles from "./Evaluations.module.css";

/** Measure a policy, and watch it being measured. */
export function RunPage() {
  const [query, set] = useUrlState();
  const router = useRouter();
  const job = query.get("job");
  return (
    <Page
      title="Evaluate a policy"
      lead="On prompts that fitting never saw, the bare model and the policy beside it. What comes out is a Risk Card."
    >
      {job !== null ? (
        <Section title="Measuring">
          <JobProgress
            id={job}
            onResult={(card) => router.replace(`/evaluations/view?id=${card}`)}
            onLeave={() => set({ job: null })}
          />
        </Section>
      ) : (
        <Form
          policy={query.get("policy") ?? ""}
          setPolicy={(policy) => set({ policy })}
          onJob={(id) => set({ job: id }, { push: true })}
        />
      )}
    </Page>
  );
}

interface FormProps {
  policy: string;
  setPolicy: (policy: string) => void;
  onJob: (id: string) => void;
}

function Form({ policy, setPolicy, onJob }: FormProps) {
  const may = useMay("jobs:write");
  const names = useSuiteNames();
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<Problem | null>(null);

  async function submit(event: SyntheticEvent<HTMLFormElement>) {
    event.preventDefault();
    const text = formReader(event.currentTarget);
    const limit = Number(text("limit"));
    setBusy(true);
    setRefused(null);
    const answer = await edge.POST("/eval", {
      body: {
        policy,
        only: text("only").split(/[\s,]+/).filter(Boolean),
        ...(text("suites") !== "" && { suites_uri: text("suites") }),
        spec: {
          ...(limit > 0 && { limit }),
          comparison_prompts: Number(text("comparison")),
          latency_prompts: Number(text("latency")),
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
    <Section title="What to measure">
      {refused !== null && <ErrorState problem={refused} compact />}
      <form onSubmit={(event) => void submit(event)} className={styles.form}>
        <PolicyChoice value={policy} draft={null} onChange={setPolicy} />
        <Field label="Only these suites" hint="Names with commas between them; all of them if empty.">
          {(field) => (
            <>
              <input {...field} name="only" list="suites" placeholder="all" />
              <datalist id="suites">
                {names.map((name) => (
                  <option key={name} value={name} />
                ))}
              </datalist>
            </>
          )}
        </Field>
        <Field label="Prompts per suite, at most" hint="Fewer of them take less time, and make intervals wide.">
          {(field) => <input {...field} name="limit" type="number" min={1} placeholder="as the suites say" />}
        </Field>
        <Field label="Prompts for the alternatives" hint="System prompt, difference in means, random direction; 0 leaves them out.">
          {(field) => <input {...field} name="comparison" type="number" min={0} required defaultValue={32} />}
        </Field>
        <Field label="Prompts to time" hint="0 leaves timing out; latency is then a miss.">
          {(field) => <input {...field} name="latency" type="number" min={0} required defaultValue={12} />}
        </Field>
        <Field label="A file of suites" hint="s3://, hf:// or package:; the project's own if empty.">
          {(field) => <input {...field} name="suites" placeholder="package:eval_suites" />}
        </Field>
        <div className={styles.formEnd}>
          <Button type="submit" kind="primary" busy={busy} disabled={!may || policy === ""}>
            Measure
          </Button>
        </div>
      </form>
    </Section>
  );
}

/** Names of suites that the newest card ran. */
function useSuiteNames(): string[] {
  const cards = api.useQuery("get", "/risk-cards", { params: { query: { limit: 1 } } });
  const id = cards.data?.items[0]?.id;
  const newest = api.useQuery(
    "get",
    "/risk-cards/{artifact_id}",
    { params: { path: { artifact_id: id ?? "" } } },
    { enabled: id !== undefined, staleTime: Infinity },
  );
  return (newest.data?.card as unknown as RiskCard | undefined)?.suites.map(({ name }) => name) ?? [];
}
