import { scaleLinear, scaleTime } from "d3";

import type { Schema } from "@/api/client";
import { count, figure, moment } from "@/ui/format";

import styles from "./Drift.module.css";
import { ceiling, inWords, points } from "./parts";

const WIDTH = 640;
const HEIGHT = 130;
const LEFT = 34;
const PAD = 20;

interface OverTimeProps {
  parts: readonly Schema["TrafficPart"][];
  limits: Schema["DriftLimits"];
}

/** How far the scores of each part were from the reference: the index over time, with its limits. */
export function OverTime({ parts, limits }: OverTimeProps) {
  const shown = points(parts);
  const first = shown[0];
  const last = shown.at(-1);
  if (first === undefined || last === undefined) return null;
  const x = scaleTime([first.since, last.until], [LEFT, WIDTH - 4]);
  const y = scaleLinear([0, ceiling(shown, limits)], [HEIGHT - PAD, 6]);
  return (
    <svg
      className={styles.scores}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      role="img"
      aria-label={`Population stability index over time. ${inWords(shown, limits)} The table below has the figures.`}
    >
      {(
        [
          [limits.psi_watch, "look"],
          [limits.psi_drift, "drift"],
        ] as const
      ).map(([limit, word]) => (
        <g key={word}>
          <line className={styles.limit} x1={LEFT} x2={WIDTH - 4} y1={y(limit)} y2={y(limit)} />
          <text className={styles.tick} x={LEFT - 4} y={y(limit) + 4} textAnchor="end">
            {figure(limit, 2)}
          </text>
          <text className={styles.tick} x={WIDTH - 6} y={y(limit) - 3} textAnchor="end">
            {word}
          </text>
        </g>
      ))}
      <line className={styles.axis} x1={LEFT} x2={WIDTH - 4} y1={y(0)} y2={y(0)} />
      {shown.map(({ since, until, psi, requests, verdict }) =>
        psi === null ? null : (
          <rect
            key={since.getTime()}
            className={verdict === "drifted" ? styles.over : styles.now}
            x={x(since) + 1}
            width={Math.max(2, x(until) - x(since) - 2)}
            y={y(psi)}
            height={Math.max(1, y(0) - y(psi))}
          >
            <title>{`${moment(since.toISOString())}: PSI ${figure(psi, 2)}, ${count(requests)} requests, ${verdict.replace("_", " ")}`}</title>
          </rect>
        ),
      )}
      {x.ticks(6).map((at) => (
        <text key={at.getTime()} className={styles.tick} x={x(at)} y={HEIGHT - 6} textAnchor="middle">
          {x.tickFormat()(at)}
        </text>
      ))}
    </svg>
  );
}
