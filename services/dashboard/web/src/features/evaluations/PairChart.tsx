"use client";

import { scaleLinear } from "d3";

import { Figure } from "@/ui/Figure";
import { Table, type Column } from "@/ui/Table";

import { direction, domain, interval, lessIsBetter, writer, type BarRow, type Estimate } from "./card";
import styles from "./Charts.module.css";

const WIDTH = 360;
const ROW = 34;

interface PairChartProps {
  caption: string;
  rows: readonly BarRow[];
  /** What both sides are called. */
  names?: readonly [string, string];
}

/** Two figures in each row with their intervals: a hollow mark before, a filled one after. */
export function PairChart({ caption, rows, names = ["bare model", "steered"] }: PairChartProps) {
  const range = domain(rows);
  const columns: readonly Column<BarRow>[] = [
    { head: "Measure", cell: ({ label }) => label },
    {
      head: (
        <>
          <span className="visually-hidden">Both, drawn</span>
          <Axis range={range} name={rows[0]?.name ?? ""} />
        </>
      ),
      cell: (row) => <Row row={row} range={range} names={names} />,
      wide: true,
    },
    { head: names[0], cell: ({ name, pair }) => <Written name={name} figure={pair.baseline} /> },
    { head: names[1], cell: ({ name, pair }) => <Written name={name} figure={pair.steered} /> },
    { head: "Change", cell: ({ name, pair }) => <Change name={name} change={pair.change} /> },
  ];
  return (
    <div className={styles.chart}>
      <p className={styles.legend} aria-hidden>
        <span>
          <svg viewBox="-7 -7 14 14" width="12" height="12">
            <circle r="4.5" className={styles.before} />
          </svg>
          {names[0]}
        </span>
        <span>
          <svg viewBox="-7 -7 14 14" width="12" height="12">
            <rect x="-4.5" y="-4.5" width="9" height="9" className={styles.after} />
          </svg>
          {names[1]}
        </span>
        <span>lines: 95 % intervals</span>
      </p>
      <Table caption={caption} columns={columns} rows={rows} id={({ key }) => key} />
    </div>
  );
}

function Axis({ range, name }: { range: [number, number]; name: string }) {
  const x = scaleLinear(range, [8, WIDTH - 8]);
  const write = writer(name);
  return (
    <svg viewBox={`0 0 ${WIDTH} 16`} className={styles.axis} aria-hidden>
      {x.ticks(4).map((tick) => (
        <text key={tick} x={x(tick)} y={12} textAnchor={tick === range[0] ? "start" : tick === range[1] ? "end" : "middle"}>
          {write(tick).replace(".0 %", " %")}
        </text>
      ))}
    </svg>
  );
}

function Row({ row, range, names }: { row: BarRow; range: [number, number]; names: readonly [string, string] }) {
  const x = scaleLinear(range, [8, WIDTH - 8]).clamp(true);
  const { baseline, steered } = row.pair;
  const write = writer(row.name);
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${ROW}`}
      className={styles.row}
      role="img"
      aria-label={`${names[0]} ${write(baseline.value)}, ${names[1]} ${write(steered.value)}`}
    >
      {x.ticks(4).map((tick) => (
        <line key={tick} x1={x(tick)} x2={x(tick)} y1={0} y2={ROW} className={styles.grid} />
      ))}
      <Doubt estimate={baseline} x={x} y={10} className={styles.beforeLine} />
      <Doubt estimate={steered} x={x} y={24} className={styles.afterLine} />
      <line x1={x(baseline.value)} x2={x(steered.value)} y1={10} y2={24} className={styles.between} />
      <circle cx={x(baseline.value)} cy={10} r={4.5} className={styles.before} />
      <rect x={x(steered.value) - 4.5} y={19.5} width={9} height={9} className={styles.after} />
    </svg>
  );
}

function Doubt({ estimate, x, y, className }: { estimate: Estimate; x: (value: number) => number; y: number; className: string | undefined }) {
  const ends = interval(estimate);
  return ends && <line x1={x(ends[0])} x2={x(ends[1])} y1={y} y2={y} className={className} />;
}

/** A figure as text. */
export function Written({ name, figure }: { name: string; figure: Estimate | null | undefined }) {
  if (figure === null || figure === undefined) return <span className={styles.faint}>not measured</span>;
  return <Figure value={figure.value} interval={interval(figure)} n={figure.n} format={writer(name)} />;
}

function Change({ name, change }: { name: string; change: Estimate }) {
  const way = direction(change);
  const better = way === "unclear" || name === "refusal_rate" ? null : (way === "less") === lessIsBetter(name);
  const write = writer(name);
  return (
    <span className={styles.change}>
      {change.value > 0 ? "+" : ""}
      {write(change.value)}
      <span className={better === null ? styles.faint : better ? styles.better : styles.worse}>
        {better === null ? (way === "unclear" ? "not told apart" : way) : better ? "▲ better" : "▼ worse"}
      </span>
    </span>
  );
}
