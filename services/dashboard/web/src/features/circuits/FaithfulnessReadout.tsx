"use client";

import { useDeferredValue, useMemo } from "react";

import { Figure } from "@/ui/Figure";
import { percent } from "@/ui/format";

import type { CircuitFile } from "./circuit";
import styles from "./Controls.module.css";
import { readFaithfulness } from "./faithfulness";
import type { Graph } from "./graph";
import { graphScores } from "./influence";
import type { Shown } from "./prune";
import type { Circuit } from "./useCircuit";
import type { ViewState } from "./viewState";

interface ReadoutProps {
  circuit: Circuit;
  graph: Graph;
  shown: Shown;
  state: ViewState;
}

/** What the shown part of the graph still explains: measured where something was measured. */
export function FaithfulnessReadout({ circuit, graph, shown }: ReadoutProps) {
  return circuit.found === null ? (
    <Scores graph={graph} shown={shown} />
  ) : (
    <Measured file={circuit.found} shown={shown} />
  );
}

function Measured({ file, shown }: { file: CircuitFile; shown: Shown }) {
  const reading = readFaithfulness(file, shown.components, shown.allComponents);
  return (
    <div className={styles.readout} role="group" aria-label="Faithfulness of what is shown" aria-live="off">
      <Curve file={file} units={shown.components} all={shown.allComponents} />
      <div>
        {reading.kind === "measured" && (
          <>
            <Figure
              value={reading.kept.value}
              interval={[reading.kept.low, reading.kept.high]}
              n={reading.kept.n}
              format={(value) => percent(value)}
            />
            <p>
              of the effect is kept by {reading.units} of {shown.allComponents} heads and MLPs, measured on
              held-out pairs
            </p>
          </>
        )}
        {reading.kind === "between" && (
          <>
            <b>
              {percent(reading.below.kept.value)} – {percent(reading.above.kept.value)}
            </b>
            <p>
              Measured with {reading.below.units} and with {reading.above.units} heads and MLPs on{" "}
              {reading.below.kept.n} held-out pairs; with {shown.components}, not.
            </p>
          </>
        )}
        {reading.kind === "whole" && (
          <>
            <b>Not measured for {shown.components} units</b>
            <p>
              This circuit was searched before smaller ones were measured. The whole one keeps{" "}
              {percent(reading.kept.value)} [{percent(reading.kept.low)}, {percent(reading.kept.high)}]; search
              again for the rest.
            </p>
          </>
        )}
        {reading.kind === "none" && (
          <>
            <b>0 %</b>
            <p>No head or MLP is kept.</p>
          </>
        )}
      </div>
    </div>
  );
}

const [WIDE, HIGH] = [132, 56];

/** The measured points, and where the threshold stands. Nothing is drawn between them but a thin line. */
function Curve({ file, units, all }: { file: CircuitFile; units: number; all: number }) {
  const points = file.faithfulness_curve ?? [];
  if (points.length < 2) return null;
  const most = Math.max(1, ...points.map(({ kept }) => kept.high));
  const least = Math.min(0, ...points.map(({ kept }) => kept.low));
  const x = (value: number) => 4 + (Math.log(Math.max(1, value)) / Math.log(Math.max(2, all))) * (WIDE - 8);
  const y = (value: number) => 3 + (1 - (value - least) / (most - least)) * (HIGH - 14);
  return (
    <svg width={WIDE} height={HIGH} role="img" aria-label="Share of the effect by number of units">
      <line className={styles.curveLine} x1={0} x2={WIDE} y1={y(0)} y2={y(0)} strokeOpacity={0.5} />
      <line
        className={styles.curveLine}
        x1={0}
        x2={WIDE}
        y1={y(1)}
        y2={y(1)}
        strokeOpacity={0.5}
        strokeDasharray="1 3"
      />
      <polyline
        className={styles.curveLine}
        points={points.map(({ units: n, kept }) => `${x(n)},${y(kept.value)}`).join(" ")}
      />
      {points.map(({ units: n, kept }) => (
        <g key={n}>
          <line className={styles.curveBar} x1={x(n)} x2={x(n)} y1={y(kept.low)} y2={y(kept.high)} />
          <circle className={styles.curvePoint} cx={x(n)} cy={y(kept.value)} r={2.2} />
        </g>
      ))}
      {units > 0 && (
        <line className={styles.curveHere} x1={x(units)} x2={x(units)} y1={0} y2={HIGH - 10} />
      )}
      <text className={styles.curveAxis} x={4} y={HIGH - 1}>
        1 unit
      </text>
      <text className={styles.curveAxis} x={WIDE - 2} y={HIGH - 1} textAnchor="end">
        {all}
      </text>
    </svg>
  );
}

/** What circuit-tracer would say of the shown part; it is read off weights, and nothing was run. */
function Scores({ graph, shown }: { graph: Graph; shown: Shown }) {
  const late = useDeferredValue(shown);
  const scores = useMemo(() => graphScores(graph, late.nodes, late.edges), [graph, late]);
  const say = (value: number) => (Number.isNaN(value) ? "–" : percent(value));
  return (
    <div className={styles.readout} role="group" aria-label="Scores of what is shown">
      <ul>
        <li>
          <b>{say(scores.replacement)}</b> replacement score
        </li>
        <li>
          <b>{say(scores.completeness)}</b> completeness score
        </li>
      </ul>
      <p>
        How much of the shown graph runs through features and tokens and not through errors, as circuit-tracer
        computes it from the weights. Faithfulness was not measured: no model was run here.
      </p>
    </div>
  );
}
