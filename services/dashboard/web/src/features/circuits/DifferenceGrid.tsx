import type { ComparedUnit } from "./Compare";
import styles from "./Compare.module.css";
import { parseUnit } from "./circuit";
import { outline } from "./shapes";

const CELL = 20;
const LEFT = 34;
const TOP = 8;

/** Layers by heads: which units both have, which one alone. Filled, barred and hollow besides coloured. */
export function DifferenceGrid({ units }: { units: readonly ComparedUnit[] }) {
  const placed = units.flatMap((compared) => {
    const unit = parseUnit(compared.unit);
    return unit !== null && (unit.kind === "head" || unit.kind === "mlp") ? [{ ...compared, ...unit }] : [];
  });
  if (placed.length === 0) return <p className={styles.faint}>Neither circuit has heads or MLPs.</p>;
  const heads = Math.max(0, ...placed.filter(({ kind }) => kind === "head").map(({ index }) => index + 1));
  const layers = Math.max(...placed.map(({ layer }) => layer)) + 1;
  const strength = ({ base, other }: ComparedUnit) =>
    Math.max(Math.abs(base?.attribution ?? 0), Math.abs(other?.attribution ?? 0));
  const most = Math.max(...placed.map(strength), 1e-9);
  const row = Math.min(CELL, Math.max(11, 420 / layers));
  const x = (kind: string, index: number) => LEFT + (kind === "mlp" ? heads + 0.6 : index) * CELL + CELL / 2;
  const y = (layer: number) => TOP + (layers - 1 - layer) * row + row / 2;
  const [wide, tall] = [LEFT + (heads + 1.6) * CELL + 8, TOP + layers * row + 20];
  const every = row < 14 ? 5 : 2;
  return (
    <figure>
      <svg
        className={styles.plot}
        viewBox={`0 0 ${wide} ${tall}`}
        style={{ maxWidth: 1.6 * wide }} // of few heads no giants
        role="img"
        aria-label="Units of either circuit by layer and head; the table below has them all"
      >
        {Array.from({ length: layers }, (_, layer) => (
          <g key={layer}>
            <line className={styles.grid} x1={LEFT} x2={wide - 4} y1={y(layer)} y2={y(layer)} />
            {layer % every === 0 && (
              <text x={LEFT - 7} y={y(layer)} textAnchor="end" dominantBaseline="central">
                {layer}
              </text>
            )}
          </g>
        ))}
        {Array.from({ length: heads }, (_, head) => (
          <text key={head} x={x("head", head)} y={tall - 6} textAnchor="middle">
            {heads > 16 && head % 4 !== 0 ? "" : `h${head}`}
          </text>
        ))}
        <text x={x("mlp", 0)} y={tall - 6} textAnchor="middle">
          MLP
        </text>
        {placed.map((unit) => {
          const radius = Math.min(row * 0.46, 2.2 + 5 * Math.sqrt(strength(unit) / most));
          return (
            <g key={unit.unit}>
              <path d={outline(unit.kind, x(unit.kind, unit.index), y(unit.layer), radius)} className={CLASSES[unit.status]}>
                <title>{`${unit.unit}: ${unit.status}`}</title>
              </path>
              {unit.status === "gained" && (
                <path
                  d={`M${x(unit.kind, unit.index)} ${y(unit.layer) - radius - 3}v-4m-2 2h4`}
                  stroke="var(--cat-1)"
                  strokeWidth={1.3}
                />
              )}
            </g>
          );
        })}
      </svg>
      <figcaption className={styles.legend}>
        <span>
          <svg width="12" height="12">
            <circle cx="6" cy="6" r="5" className={styles.cellShared} />
          </svg>
          shared
        </span>
        <span>
          <svg width="12" height="16" viewBox="0 -4 12 16">
            <circle cx="6" cy="7" r="4.5" className={styles.cellGained} />
            <path d="M6 -4v4m-2 -2h4" stroke="var(--cat-1)" strokeWidth={1.3} />
          </svg>
          gained
        </span>
        <span>
          <svg width="12" height="12">
            <circle cx="6" cy="6" r="4.5" className={styles.cellLost} />
          </svg>
          lost
        </span>
        <span>size: attribution</span>
      </figcaption>
    </figure>
  );
}

const CLASSES = {
  shared: styles.cellShared,
  gained: styles.cellGained,
  lost: styles.cellLost,
};
