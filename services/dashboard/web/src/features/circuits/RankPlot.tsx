import type { ComparedUnit, Comparison } from "./Compare";
import styles from "./Compare.module.css";
import { parseUnit } from "./circuit";
import { KIND_COLOURS, outline } from "./shapes";

const SIZE = 360;
const PAD = 40;

/** Ranks of the units that both circuits measured: on the diagonal, nothing changed. */
export function RankPlot({ comparison }: { comparison: Comparison }) {
  const both = comparison.units.filter(isMeasured);
  if (both.length === 0) return <p className={styles.faint}>No unit was measured in both circuits.</p>;
  const most = Math.max(...both.flatMap(({ base, other }) => [base.rank, other.rank]), 2);
  const at = (rank: number) => PAD + ((rank - 1) / (most - 1)) * (SIZE - 2 * PAD);
  const ticks = [1, Math.round(most / 2), most];
  const moved = [...both]
    .sort((a, b) => Math.abs(b.base.rank - b.other.rank) - Math.abs(a.base.rank - a.other.rank))
    .slice(0, 4);
  const named = new Set([...moved, ...both.filter(({ base }) => base.rank <= 3)].map(({ unit }) => unit));
  return (
    <figure>
      <svg
        className={styles.plot}
        viewBox={`0 0 ${SIZE} ${SIZE}`}
        role="img"
        aria-label={`Ranks of ${both.length} units in both circuits; the table below has them all`}
      >
        <line className={styles.diagonal} x1={PAD} y1={PAD} x2={SIZE - PAD} y2={SIZE - PAD} />
        {ticks.map((tick) => (
          <g key={tick}>
            <line className={styles.grid} x1={at(tick)} x2={at(tick)} y1={PAD} y2={SIZE - PAD} />
            <line className={styles.grid} y1={at(tick)} y2={at(tick)} x1={PAD} x2={SIZE - PAD} />
            <text x={at(tick)} y={SIZE - PAD + 15} textAnchor="middle">
              {tick}
            </text>
            <text x={PAD - 7} y={at(tick)} textAnchor="end" dominantBaseline="central">
              {tick}
            </text>
          </g>
        ))}
        <text x={SIZE / 2} y={SIZE - 6} textAnchor="middle">
          rank in the base, strongest at 1
        </text>
        <text transform={`translate(11 ${SIZE / 2}) rotate(-90)`} textAnchor="middle">
          rank in the other
        </text>
        {both.map(({ unit, base, other }) => {
          const kind = parseUnit(unit)?.kind ?? "other";
          return (
            <path
              key={unit}
              className={styles.dot}
              d={outline(kind, at(base.rank), at(other.rank), 5)}
              fill={`var(${KIND_COLOURS[kind]})`}
            >
              <title>{`${unit}: rank ${base.rank} and ${other.rank}`}</title>
            </path>
          );
        })}
        {both
          .filter(({ unit }) => named.has(unit))
          .map(({ unit, base, other }) => {
            const right = at(base.rank) > SIZE * 0.68;
            return (
              <text
                key={unit}
                className={styles.dotName}
                x={at(base.rank) + (right ? -9 : 9)}
                y={at(other.rank)}
                textAnchor={right ? "end" : "start"}
                dominantBaseline="central"
              >
                {unit.replace("layer", "L")}
              </text>
            );
          })}
      </svg>
    </figure>
  );
}

interface Ranked {
  rank: number;
}

function isMeasured(unit: ComparedUnit): unit is ComparedUnit & { base: Ranked; other: Ranked } {
  const { kind } = parseUnit(unit.unit) ?? { kind: "other" };
  return (
    (kind === "head" || kind === "mlp") &&
    typeof unit.base?.rank === "number" &&
    typeof unit.other?.rank === "number"
  );
}
