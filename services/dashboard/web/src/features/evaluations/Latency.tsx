"use client";

import { EmptyState } from "@/ui/EmptyState";
import { figure } from "@/ui/format";
import { Section } from "@/ui/Page";
import { Table } from "@/ui/Table";

import type { RiskCard } from "./card";
import styles from "./Evaluations.module.css";
import { OverheadChart } from "./OverheadChart";
import { Written } from "./PairChart";

/** How much slower answers are, and what that costs. */
export function Latency({ card: { latency, cost, firing_rate: firing, win_line: line } }: { card: RiskCard }) {
  const limit = line.find(({ name }) => name === "latency_overhead_pct")?.limit ?? null;
  return (
    <div className={styles.stack}>
      <Section title="Slowdown">
        {latency === null ? (
          <EmptyState title="Latency was not measured" compact>
            <p>The evaluation was asked to leave timing out.</p>
          </EmptyState>
        ) : (
          <>
            <p className={styles.explain}>
              Paired runs, one prompt at a time, to the same {latency.tokens} tokens. Harmless prompts mostly run
              untouched and pay for the condition alone; attacks pay for the interventions too.
            </p>
            <OverheadChart
              limit={limit}
              rows={[
                ["harmless prompts", latency.benign_overhead_pct],
                ["attacks", latency.attack_overhead_pct],
              ]}
            />
            <p className={styles.faint}>
              An answer takes{" "}
              {latency.baseline_seconds === null ? "–" : `${figure(latency.baseline_seconds.value)} s`} without
              the policy,{" "}
              {latency.steered_seconds === null ? "–" : `${figure(latency.steered_seconds.value)} s`} with it.
            </p>
          </>
        )}
      </Section>
      <Section title="Cost of a thousand requests">
        {cost === null ? (
          <EmptyState title="No price is set" compact>
            <p>
              Set <code>runtime.price_per_hour</code> to what the machine costs.
            </p>
          </EmptyState>
        ) : (
          <p>
            <Written name="cost" figure={cost.baseline_per_1k} /> {cost.currency} bare,{" "}
            <Written name="cost" figure={cost.steered_per_1k} /> {cost.currency} steered, at{" "}
            {cost.price_per_hour} {cost.currency} an hour.
          </p>
        )}
      </Section>
      <Section title="How often the policy acted">
        <Table
          caption="Firing rate by suite"
          rows={Object.entries(firing)}
          id={([name]) => name}
          columns={[
            { head: "Suite", cell: ([name]) => name, wide: true },
            { head: "Fired on", cell: ([, rate]) => <Written name="refusal_rate" figure={rate} /> },
          ]}
        />
      </Section>
    </div>
  );
}
