"use client";

import { scaleLinear } from "d3";

import { Table } from "@/ui/Table";

import { interval, type Estimate } from "./card";
import charts from "./Charts.module.css";
import { Written } from "./PairChart";

const WIDTH = 420;

type Row = readonly [string, Estimate | null];

/** Overheads in percent against the limit, with their intervals. */
export function OverheadChart({ rows, limit }: { rows: readonly Row[]; limit: number | null }) {
  const ends = rows.flatMap(([, one]) => (one === null ? [] : [one.value, ...(interval(one) ?? [])]));
  const x = scaleLinear(
    [Math.min(0, ...ends), Math.max((limit ?? 0) * 1.25, ...ends, 1)],
    [24, WIDTH - 24],
  ).nice();
  return (
    <div className={charts.chart}>
      <Table
        caption="Slowdown in percent"
        rows={rows}
        id={([name]) => name}
        columns={[
          { head: "Prompts", cell: ([name]) => name },
          {
            head: (
              <>
                <span className="visually-hidden">Drawn</span>
                <svg viewBox={`0 0 ${WIDTH} 16`} className={charts.axis} aria-hidden>
                  {x.ticks(5).map((tick) => (
                    <text key={tick} x={x(tick)} y={12} textAnchor="middle">
                      {tick} %
                    </text>
                  ))}
                </svg>
              </>
            ),
            wide: true,
            cell: ([, one]) => (
              <svg viewBox={`0 0 ${WIDTH} 26`} className={charts.row} aria-hidden>
                {x.ticks(5).map((tick) => (
                  <line key={tick} x1={x(tick)} x2={x(tick)} y1={0} y2={26} className={charts.grid} />
                ))}
                {limit !== null && (
                  <>
                    <line x1={x(limit)} x2={x(limit)} y1={0} y2={26} className={charts.limit} />
                    <text x={x(limit) + 4} y={9} className={charts.limitText}>
                      limit
                    </text>
                  </>
                )}
                {one !== null && (
                  <>
                    <rect
                      x={Math.min(x(0), x(one.value))}
                      y={9}
                      width={Math.abs(x(one.value) - x(0))}
                      height={8}
                      opacity={0.35}
                      className={charts.after}
                    />
                    {interval(one) && (
                      <line
                        x1={x(interval(one)?.[0] ?? 0)}
                        x2={x(interval(one)?.[1] ?? 0)}
                        y1={13}
                        y2={13}
                        className={charts.whisker}
                      />
                    )}
                    <circle cx={x(one.value)} cy={13} r={4} className={charts.after} />
                  </>
                )}
              </svg>
            ),
          },
          { head: "Slower by", cell: ([, one]) => <Written name="latency_overhead_pct" figure={one} /> },
        ]}
      />
    </div>
  );
}
