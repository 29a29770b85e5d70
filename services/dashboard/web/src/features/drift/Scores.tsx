import { max, scaleBand, scaleLinear } from "d3";

import type { Schema } from "@/api/client";
import { figure, percent } from "@/ui/format";
import { Table } from "@/ui/Table";

import styles from "./Drift.module.css";

type Bin = Schema["ScoreBin"];

const WIDTH = 640;
const HEIGHT = 160;
const PAD = 22;

/** The condition's scores, before and now, as shares of requests; the threshold is at 0. */
export function Scores({ score }: { score: Schema["ScoreShift"] }) {
  const bins = score.bins ?? [];
  const x = scaleBand(
    bins.map((_, at) => String(at)),
    [0, WIDTH],
  ).padding(0.12);
  const highest = max(bins, ({ reference, window }) => Math.max(reference, window)) ?? 0;
  const y = scaleLinear([0, highest || 1], [HEIGHT - PAD, 4]);
  const rise = (value: number) => HEIGHT - PAD - y(value);
  return (
    <div>
      <h3>Scores of the condition, as distances from its threshold</h3>
      <p className={styles.faint}>
        PSI {figure(score.psi, 2)} (by chance {figure(score.psi_expected, 2)}, p{" "}
        {figure(score.psi_p, 2)}) · KS {figure(score.ks, 2)} (p {figure(score.ks_p, 2)})
      </p>
      {bins.length > 0 && (
        <>
          <svg
            className={styles.scores}
            viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
            role="img"
            aria-label="Shares of requests by score: outlined before, filled now. The table below has the figures."
          >
            {bins.map(({ reference, window, low, high }, at) => (
              <g key={at}>
                <title>{`${range({ low, high })}: before ${percent(reference, 1)}, now ${percent(window, 1)}`}</title>
                <rect
                  className={styles.now}
                  x={x(String(at))}
                  width={x.bandwidth()}
                  y={y(window)}
                  height={rise(window)}
                />
                <rect
                  className={styles.before}
                  x={x(String(at))}
                  width={x.bandwidth()}
                  y={y(reference)}
                  height={rise(reference)}
                />
                <text
                  className={styles.tick}
                  x={(x(String(at)) ?? 0) + x.bandwidth() / 2}
                  y={HEIGHT - 6}
                  textAnchor="middle"
                >
                  {low == null ? `< ${figure(high ?? 0, 2)}` : figure(low, 2)}
                </text>
              </g>
            ))}
          </svg>
          <p className={styles.legend}>
            <span className={styles.keyBefore} /> before <span className={styles.keyNow} /> now
          </p>
          <details>
            <summary>As a table</summary>
            <Table
              caption="Scores of the condition"
              rows={bins.map((bin, at) => ({ ...bin, at }))}
              id={({ at }) => String(at)}
              columns={[
                { head: "Scores", cell: range, wide: true },
                { head: "Before", cell: ({ reference }) => percent(reference, 1), number: true },
                { head: "Now", cell: ({ window }) => percent(window, 1), number: true },
              ]}
            />
          </details>
        </>
      )}
    </div>
  );
}

function range({ low, high }: Pick<Bin, "low" | "high">): string {
  if (low == null) return `below ${figure(high ?? 0, 2)}`;
  return high == null ? `from ${figure(low, 2)}` : `${figure(low, 2)} to ${figure(high, 2)}`;
}
