"use client";

import { scaleLinear } from "d3";

import { Badge } from "@/ui/Badge";
import { Figure } from "@/ui/Figure";

import { interval, title, verdict, writer, type Criterion } from "./card";
import charts from "./Charts.module.css";
import styles from "./Evaluations.module.css";

const WIDTH = 240;

/** Each line of the verdict: the figure, its interval, and where the limit is. */
export function Verdict({ criteria }: { criteria: readonly Criterion[] }) {
  return (
    <section>
      <h2 className="visually-hidden">Against the limits</h2>
      <ul className={styles.criteria}>
        {criteria.map((criterion) => (
          <li key={`${criterion.source} ${criterion.name}`}>
            <One criterion={criterion} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function One({ criterion }: { criterion: Criterion }) {
  const { name, value, limit, sense, source } = criterion;
  const { tone, words } = verdict(criterion);
  const write = writer(name);
  return (
    <>
      <div className={styles.criterionHead}>
        <h3>{title(name)}</h3>
        <Badge tone={tone}>{words}</Badge>
      </div>
      {value === null ? (
        <p className={styles.faint}>no figure</p>
      ) : (
        <Figure value={value.value} interval={interval(value)} n={value.n} format={write} large />
      )}
      <Track criterion={criterion} />
      <p className={styles.faint}>
        {sense} {write(limit)}, set by the {source}
        {tone === "warn" && "; its interval crosses the limit"}
      </p>
    </>
  );
}

function Track({ criterion: { name, value, limit, sense } }: { criterion: Criterion }) {
  const ends = value === null ? null : interval(value);
  const reach = Math.max(limit * 2, ends?.[1] ?? 0, value?.value ?? 0, sense === "at least" ? 1 : 0);
  const least = Math.min(0, ends?.[0] ?? 0, value?.value ?? 0);
  const x = scaleLinear([least, reach], [6, WIDTH - 6]).clamp(true);
  const write = writer(name);
  const from = sense === "at least" ? limit : least;
  const to = sense === "at least" ? reach : limit;
  return (
    <svg viewBox={`0 0 ${WIDTH} 34`} className={charts.criterion} aria-hidden>
      <rect x={6} y={8} width={WIDTH - 12} height={8} rx={2} className={charts.track} />
      <rect x={x(from)} y={8} width={x(to) - x(from)} height={8} rx={2} className={charts.allowed} />
      <line x1={x(limit)} x2={x(limit)} y1={3} y2={21} className={charts.limit} />
      <text
        x={Math.min(Math.max(x(limit), 20), WIDTH - 20)}
        y={32}
        textAnchor="middle"
        className={charts.limitText}
      >
        {write(limit)}
      </text>
      {ends && <line x1={x(ends[0])} x2={x(ends[1])} y1={12} y2={12} className={charts.whisker} />}
      {value !== null && <circle cx={x(value.value)} cy={12} r={5} className={charts.dot} />}
    </svg>
  );
}
