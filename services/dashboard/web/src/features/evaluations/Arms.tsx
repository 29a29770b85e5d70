"use client";

import { scaleLinear } from "d3";

import { EmptyState } from "@/ui/EmptyState";
import { Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";

import { interval, writer, type Arm, type Estimate } from "./card";
import charts from "./Charts.module.css";
import styles from "./Evaluations.module.css";
import { Written } from "./PairChart";

const NAMES: Record<string, string> = {
  baseline: "bare model",
  steered: "the policy",
  system_prompt: "system prompt",
  diff_means: "difference in means",
  random_direction: "random direction",
  ungated: "policy without condition",
};

type Row = Arm & { name: string };

/** The policy beside simple alternatives, on the same smaller sample. */
export function Arms({ arms }: { arms: Record<string, Arm> }) {
  const order = Object.keys(NAMES);
  const rows = Object.entries(arms)
    .map(([name, arm]): Row => ({ ...arm, name }))
    .sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  if (rows.length === 0) {
    return (
      <Section title="Beside alternatives">
        <EmptyState title="No alternatives were run" compact />
      </Section>
    );
  }
  const columns: readonly Column<Row>[] = [
    {
      head: "What was run",
      cell: ({ name, description }) => (
        <span title={description} className={name === "steered" ? styles.strong : undefined}>
          {NAMES[name] ?? name.replaceAll("_", " ")}
        </span>
      ),
    },
    {
      head: "Defense efficacy",
      cell: ({ defense_efficacy: figure }) => <Bar figure={figure} name="defense_efficacy" reach={[-0.2, 1]} />,
    },
    {
      head: "Collateral damage",
      cell: ({ collateral_damage: figure }) => <Bar figure={figure} name="collateral_damage" reach={[-0.2, 1]} />,
    },
    {
      head: "Refused though harmless",
      minor: true,
      cell: ({ over_refusal_rate: figure }) => <Written name="over_refusal_rate" figure={figure} />,
    },
    {
      head: "Degenerate",
      minor: true,
      cell: ({ degeneration_rate: figure }) => <Written name="degeneration_rate" figure={figure} />,
    },
  ];
  return (
    <Section title="Beside alternatives">
      <p className={styles.explain}>
        A policy that beats nothing but the bare model has shown little. All of these ran on the same, smaller
        sample; directions act behind the policy&apos;s own condition, so that only what is added differs.
      </p>
      <Table caption="The policy and its alternatives" columns={columns} rows={rows} id={({ name }) => name} selected={({ name }) => name === "steered"} />
      <dl className={styles.small}>
        {rows.map(({ name, description }) => (
          <div key={name}>
            <dt>{NAMES[name] ?? name}</dt>
            <dd>{description}</dd>
          </div>
        ))}
      </dl>
    </Section>
  );
}

function Bar({ figure, name, reach }: { figure: Estimate | null; name: string; reach: [number, number] }) {
  if (figure === null) return <span className={styles.faint}>–</span>;
  const x = scaleLinear(reach, [4, 156]).clamp(true);
  const ends = interval(figure);
  return (
    <span className={styles.bar}>
      <svg viewBox="0 0 160 18" width="160" height="18" aria-hidden>
        <line x1={x(0)} x2={x(0)} y1={0} y2={18} className={charts.grid} />
        <rect
          x={Math.min(x(0), x(figure.value))}
          y={5}
          width={Math.abs(x(figure.value) - x(0))}
          height={8}
          className={charts.after}
          opacity={0.35}
        />
        {ends && <line x1={x(ends[0])} x2={x(ends[1])} y1={9} y2={9} className={charts.whisker} />}
        <circle cx={x(figure.value)} cy={9} r={3.5} className={charts.after} />
      </svg>
      <Written name={name} figure={figure} />
    </span>
  );
}

/** Relative loss of each benign measurement; the worst is the card's collateral damage. */
export function Damages({ damages }: { damages: Record<string, Estimate> }) {
  const rows = Object.entries(damages);
  if (rows.length === 0) return null;
  return (
    <Section title="Collateral damage, by measurement">
      <Table
        caption="Relative loss by benign measurement"
        rows={rows}
        id={([name]) => name}
        columns={[
          { head: "Measurement", cell: ([name]) => name },
          {
            head: "Relative loss",
            wide: true,
            cell: ([, figure]) => <Bar figure={figure} name="collateral_damage" reach={[-0.5, 0.5]} />,
          },
        ]}
      />
      <p className={styles.faint}>
        The worst of them is the card&apos;s figure; below 0 is a gain. The limit is {writer("collateral_damage")(0.05)}.
      </p>
    </Section>
  );
}
