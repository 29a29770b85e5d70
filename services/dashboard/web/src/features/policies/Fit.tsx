"use client";

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api } from "@/api/client";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { figure, percent, shortId } from "@/ui/format";
import { LinkButton } from "@/ui/LinkButton";
import { Loading } from "@/ui/Loading";
import { Section } from "@/ui/Page";

import { textOf } from "./DraftPage";
import type { FitEvidence, FrontPoint } from "./evidence";
import { Front } from "./Front";
import { editLink } from "./links";
import styles from "./Policies.module.css";

const EVIDENCE = "fit.json";

/** How the policy of an artifact was fitted: its own evidence, or that of the fit it was made from. */
export function Fit({ artifact }: { artifact: string | null }) {
  const own = api.useQuery(
    "get",
    "/artifacts/{artifact_id}",
    { params: { path: { artifact_id: artifact ?? "" } } },
    { enabled: artifact !== null },
  );
  if (artifact === null) return <EmptyState title="Retention has deleted what it was made from" compact />;
  if (own.error) return <ErrorState problem={own.error} compact />;
  if (own.data === undefined) return <Loading what="the fit" />;
  const fitted = own.data.files.some(({ path }) => path === EVIDENCE)
    ? artifact
    : own.data.parents.find((parent) => parent.startsWith("pol_"));
  if (fitted === undefined) {
    return (
      <EmptyState title="Written by hand" compact>
        <p>No fit stands behind this version. What it does is measured by an evaluation.</p>
      </EmptyState>
    );
  }
  return <Evidence artifact={fitted} own={fitted === artifact} />;
}

/** The evidence of a fit, read from its artifact. */
export function useEvidence(artifact: string | null) {
  return useQuery({
    queryKey: ["fit", artifact],
    queryFn: async () => JSON.parse(await textOf(artifact ?? "", EVIDENCE)) as FitEvidence,
    enabled: artifact !== null,
    staleTime: Infinity,
  });
}

/** What a fit measured, and the points of its front to choose from. */
export function Evidence({ artifact, own = true }: { artifact: string; own?: boolean }) {
  const read = useEvidence(artifact);
  const [point, setPoint] = useState<FrontPoint | null>(null);
  if (read.error) return <ErrorState problem={read.error} compact />;
  if (read.data === undefined) return <Loading what="the evidence" />;
  const evidence = read.data;
  const front = evidence.front ?? [];
  const selected = point ?? front.find(({ chosen }) => chosen) ?? null;
  return (
    <div className={styles.stack}>
      {!own && (
        <p className={styles.note}>
          This version was made from the fit <code>{shortId(artifact)}</code> and has its own balance of
          defense and damage.
        </p>
      )}
      <Section
        title="What it could give, at which price"
        actions={
          selected && (
            <LinkButton href={editLink({ artifact, file: selected.file })} kind="primary" small>
              Take this point
            </LinkButton>
          )
        }
      >
        {front.length > 0 ? (
          <>
            <p className={styles.explain}>
              Each point is a strength and a threshold, measured on validation prompts that fitting did not
              see. Refusals are told by a rule on the text here, and the threshold has seen the harmless
              prompts: an evaluation on other prompts has the last word.
            </p>
            <Front evidence={evidence} selected={selected?.file ?? null} onSelect={setPoint} />
          </>
        ) : (
          <EmptyState title="This fit kept one point only" compact>
            <p>Fit again to measure others: fits keep their whole front now.</p>
          </EmptyState>
        )}
      </Section>
      <Section title="How it was chosen">
        <dl className={styles.facts}>
          <Fact name="The condition tells risky from harmless prompts">
            AUROC {figure(evidence.condition_auroc)}, out of fold, n {evidence.condition_n}
          </Fact>
          <Fact name="It fires on risky validation prompts">
            {percent(evidence.validation_recall)}
          </Fact>
          <Fact name="It fires on harmless validation prompts">
            {percent(evidence.validation_false_positives, 1)} (n {evidence.validation_n} of both)
          </Fact>
          <Fact name="Where it acts, it">{evidence.does}</Fact>
          <Fact name="Loss of the wanted answers">
            {figure(evidence.loss_before)} before, {figure(evidence.loss_full)} after; features alone{" "}
            {percent(evidence.feature_share)} of that
          </Fact>
          <Fact name="Features held">
            {Object.keys(evidence.features).length === 0
              ? "none"
              : Object.entries(evidence.features)
                  .map(([unit, origin]) => `${unit} (${origin})`)
                  .join(", ")}
          </Fact>
        </dl>
      </Section>
    </div>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
