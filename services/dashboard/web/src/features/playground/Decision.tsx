"use client";

import { scaleLinear } from "d3";

import { Badge } from "@/ui/Badge";
import { figure } from "@/ui/format";
import { Section } from "@/ui/Page";

import { byLayer } from "./difference";
import type { Play } from "./play";
import styles from "./Playground.module.css";

const WIDTH = 520;
const HEIGHT = 46;

/** What the condition said of the prompt, and what acted. */
export function Decision({ play }: { play: Play }) {
  const { record } = play.steered;
  return (
    <Section
      title="What the policy decided"
      actions={
        record === null ? (
          <Badge tone="idle">reading the prompt</Badge>
        ) : record.fired ? (
          <Badge tone="warn">fired: it steers this answer</Badge>
        ) : (
          <Badge tone="good">did not fire: the answer is the model&apos;s own</Badge>
        )
      }
    >
      {record === null ? (
        <p className={styles.faint}>The condition is read with the prompt, before the first token.</p>
      ) : (
        <div className={styles.decision}>
          {record.score === null || record.threshold === null ? (
            <p>It has no condition, and acts on every request.</p>
          ) : (
            <Gauge score={record.score} threshold={record.threshold} />
          )}
          <dl className={styles.facts}>
            <div>
              <dt>Score</dt>
              <dd>{record.score === null ? "none" : figure(record.score)}</dd>
            </div>
            <div>
              <dt>Threshold</dt>
              <dd>{record.threshold === null ? "none" : figure(record.threshold)}</dd>
            </div>
            <div>
              <dt>Forwards it acted on</dt>
              <dd>{record.steps}</dd>
            </div>
          </dl>
          {record.units.length > 0 && (
            <table className={styles.units}>
              <caption>Units it acted on</caption>
              <thead className="visually-hidden">
                <tr>
                  <th scope="col">Layer</th>
                  <th scope="col">Units</th>
                </tr>
              </thead>
              <tbody>
                {byLayer(record.units).map(([layer, units]) => (
                  <tr key={layer ?? "other"}>
                    <th scope="row">{layer === null ? "elsewhere" : `layer ${layer}`}</th>
                    <td>
                      {units.map((unit) => (
                        <code key={unit} className={styles.unit}>
                          {unit}
                        </code>
                      ))}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
      )}
    </Section>
  );
}

/** Score and threshold on one line: to the right of the threshold it acts. */
function Gauge({ score, threshold }: { score: number; threshold: number }) {
  const reach = Math.max(Math.abs(score - threshold), Math.abs(threshold) * 0.5, 1) * 1.35;
  const x = scaleLinear([threshold - reach, threshold + reach], [6, WIDTH - 6]);
  const fired = score > threshold;
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      className={styles.gauge}
      role="img"
      aria-label={`Score ${figure(score)}, ${fired ? "above" : "not above"} the threshold ${figure(threshold)}`}
    >
      <rect x={x(threshold)} y={19} width={WIDTH - 6 - x(threshold)} height={8} className={styles.acts} />
      <rect x={6} y={19} width={x(threshold) - 6} height={8} className={styles.rests} />
      <text x={WIDTH - 8} y={42} textAnchor="end" className={styles.gaugeText}>
        acts
      </text>
      <text x={8} y={42} className={styles.gaugeText}>
        rests
      </text>
      <line x1={x(threshold)} x2={x(threshold)} y1={12} y2={34} className={styles.limit} />
      <text x={x(threshold)} y={44} textAnchor="middle" className={styles.gaugeText}>
        threshold {figure(threshold)}
      </text>
      <g transform={`translate(${x(score)} 23)`}>
        <circle r={7} className={fired ? styles.above : styles.below} />
      </g>
      <text x={Math.min(Math.max(x(score), 40), WIDTH - 40)} y={10} textAnchor="middle" className={styles.score}>
        score {figure(score)}
      </text>
    </svg>
  );
}
