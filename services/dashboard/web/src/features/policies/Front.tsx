"use client";

import { line, scaleLinear } from "d3";
import { useMemo } from "react";

import { Badge } from "@/ui/Badge";
import { Figure } from "@/ui/Figure";
import { percent } from "@/ui/format";
import { Table, type Column } from "@/ui/Table";

import { candidate, extent, frontLine, type FitEvidence, type FrontPoint } from "./evidence";
import styles from "./Front.module.css";

const WIDTH = 640;
const HEIGHT = 360;
const LEFT = 52;
const BOTTOM = 44;
const TOP = 14;
const RIGHT = 16;
const GOAL = { efficacy: 0.5, damage: 0.05 };
const MARKS = ["circle", "square", "triangle", "diamond", "cross"] as const;

interface FrontProps {
  evidence: FitEvidence;
  /** File of the point that is looked at. */
  selected: string | null;
  onSelect: (point: FrontPoint) => void;
}

/** What the fit could give at which price: a point for each strength and threshold that was measured. */
export function Front({ evidence, selected, onSelect }: FrontProps) {
  const points = useMemo(() => evidence.front ?? [], [evidence]);
  return (
    <div className={styles.front}>
      <Chart points={points} trials={evidence.trials} selected={selected} onSelect={onSelect} />
      <Points points={points} trials={evidence.trials} selected={selected} onSelect={onSelect} />
    </div>
  );
}

interface PointsProps {
  points: readonly FrontPoint[];
  trials: FitEvidence["trials"];
  selected: string | null;
  onSelect: (point: FrontPoint) => void;
}

function Chart({ points, trials, selected, onSelect }: PointsProps) {
  const range = extent(points);
  const x = scaleLinear(range.damage, [LEFT, WIDTH - RIGHT]).nice();
  const y = scaleLinear(range.efficacy, [HEIGHT - BOTTOM, TOP]).nice();
  const path = line<FrontPoint>(
    ({ collateral_damage: cd }) => x(cd.value),
    ({ defense_efficacy: de }) => y(de?.value ?? 0),
  )(frontLine(points));
  const shown = points.find(({ file }) => file === selected) ?? points.find(({ chosen }) => chosen);
  return (
    <figure className={styles.figure}>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="group" aria-label="Defense efficacy against collateral damage, on validation prompts">
        <rect
          x={x(x.domain()[0] ?? 0)}
          y={TOP}
          width={Math.max(0, x(GOAL.damage) - LEFT)}
          height={Math.max(0, y(GOAL.efficacy) - TOP)}
          className={styles.goal}
        />
        <text x={LEFT + 8} y={TOP + 16} className={styles.goalText}>
          within the win line
        </text>
        {x.ticks(6).map((tick) => (
          <g key={tick} transform={`translate(${x(tick)} 0)`}>
            <line y1={TOP} y2={HEIGHT - BOTTOM} className={styles.grid} />
            <text y={HEIGHT - BOTTOM + 16} className={styles.tick} textAnchor="middle">
              {percent(tick)}
            </text>
          </g>
        ))}
        {y.ticks(5).map((tick) => (
          <g key={tick} transform={`translate(0 ${y(tick)})`}>
            <line x1={LEFT} x2={WIDTH - RIGHT} className={styles.grid} />
            <text x={LEFT - 8} dy="0.32em" className={styles.tick} textAnchor="end">
              {percent(tick)}
            </text>
          </g>
        ))}
        <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 6} className={styles.axis} textAnchor="middle">
          collateral damage →  worse
        </text>
        <text transform={`translate(13 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`} className={styles.axis} textAnchor="middle">
          defense efficacy →  better
        </text>
        {path !== null && <path d={path} className={styles.line} />}
        {shown?.defense_efficacy && (
          <g className={styles.doubt}>
            <line
              x1={x(shown.collateral_damage.low)}
              x2={x(shown.collateral_damage.high)}
              y1={y(shown.defense_efficacy.value)}
              y2={y(shown.defense_efficacy.value)}
            />
            <line
              x1={x(shown.collateral_damage.value)}
              x2={x(shown.collateral_damage.value)}
              y1={y(shown.defense_efficacy.low)}
              y2={y(shown.defense_efficacy.high)}
            />
          </g>
        )}
        {points.map((point) =>
          point.defense_efficacy === null ? null : (
            <g
              key={point.file}
              transform={`translate(${x(point.collateral_damage.value)} ${y(point.defense_efficacy.value)})`}
              className={[
                styles.point,
                styles[`trial${point.trial % 5}`],
                point.efficient ? "" : styles.beaten,
                point === shown ? styles.selected : "",
              ].join(" ")}
              onClick={() => onSelect(point)}
              aria-hidden
            >
              <title>{`${candidate(trials[point.trial] ?? { name: "?", strength: 0 })}, budget ${percent(point.budget, 1)}`}</title>
              {point === shown && <circle r="11" className={styles.ring} />}
              <Mark kind={MARKS[point.trial % MARKS.length] ?? "circle"} />
            </g>
          ),
        )}
      </svg>
      <figcaption className={styles.legend}>
        {trials.map((trial, at) => (
          <span key={candidate(trial)} className={styles[`trial${at % 5}`]}>
            <svg viewBox="-8 -8 16 16" width="14" height="14" aria-hidden>
              <Mark kind={MARKS[at % MARKS.length] ?? "circle"} />
            </svg>
            {candidate(trial)}
          </span>
        ))}
        <span>Filled: nothing gives more for less. The cross is the 95 % interval of the point looked at.</span>
      </figcaption>
    </figure>
  );
}

function Mark({ kind }: { kind: (typeof MARKS)[number] }) {
  switch (kind) {
    case "circle":
      return <circle r="5" />;
    case "square":
      return <rect x="-4.6" y="-4.6" width="9.2" height="9.2" />;
    case "triangle":
      return <path d="M0-6 5.6 4.4H-5.6Z" />;
    case "diamond":
      return <path d="M0-6.4 6.4 0 0 6.4-6.4 0Z" />;
    case "cross":
      return <path d="M-5-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z" />;
  }
}

/** The same as a table, by which a point is chosen with the keyboard. */
function Points({ points, trials, selected, onSelect }: PointsProps) {
  const columns: readonly Column<FrontPoint>[] = [
    {
      head: "Candidate",
      cell: (point) => (
        <label className={styles.choice}>
          <input
            type="radio"
            name="front-point"
            checked={point.file === selected}
            onChange={() => onSelect(point)}
          />
          {candidate(trials[point.trial] ?? { name: "?", strength: 0 })}
        </label>
      ),
    },
    { head: "Budget", number: true, cell: ({ budget }) => percent(budget, 1) },
    {
      head: "Defense efficacy",
      cell: ({ defense_efficacy: de }) =>
        de === null ? "no attack succeeds" : <Figure value={de.value} interval={[de.low, de.high]} n={de.n} format={percent} />,
    },
    {
      head: "Collateral damage",
      cell: ({ collateral_damage: cd }) => (
        <Figure value={cd.value} interval={[cd.low, cd.high]} n={cd.n} format={(v) => percent(v, 1)} />
      ),
    },
    {
      head: "Fires on risky / harmless",
      minor: true,
      cell: (point) => `${percent(point.fired_risky)} / ${percent(point.fired_harmless, 1)}`,
    },
    {
      head: "Remark",
      cell: (point) =>
        point.chosen ? (
          <Badge tone="info">the fit&apos;s choice</Badge>
        ) : point.efficient ? (
          <Badge tone="good">efficient</Badge>
        ) : null,
    },
  ];
  return (
    <Table
      caption="Points of the front"
      columns={columns}
      rows={points}
      id={({ file }) => file}
      selected={({ file }) => file === selected}
    />
  );
}
