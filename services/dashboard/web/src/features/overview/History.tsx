import { extent, line, scaleLinear, scalePoint } from "d3";

import { moment } from "@/ui/format";

import { reaches, type WinFigure } from "./figures";
import styles from "./History.module.css";

interface HistoryProps {
  /** Oldest first. */
  points: readonly { at: string; value: number; id: string }[];
  wanted: WinFigure;
}

const WIDTH = 240;
const HEIGHT = 56;
const PAD = 6;

/** A figure over the cards: filled where it was met, hollow where it was missed; dashed, its limit. */
export function History({ points, wanted }: HistoryProps) {
  if (points.length < 2) return null;
  const [low = 0, high = 1] = extent([...points.map(({ value }) => value), wanted.limit]);
  const x = scalePoint(
    points.map(({ id }) => id),
    [PAD, WIDTH - PAD],
  );
  const y = scaleLinear([low, high === low ? low + 1 : high], [HEIGHT - PAD, PAD]);
  const path = line<(typeof points)[number]>(
    ({ id }) => x(id) ?? 0,
    ({ value }) => y(value),
  )(points);
  const met = points.filter(({ value }) => reaches(wanted, value)).length;
  return (
    <svg
      className={styles.history}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      role="img"
      aria-label={`${wanted.title} over ${points.length} cards: met by ${met}. The table below has the figures.`}
    >
      <line className={styles.limit} x1={0} x2={WIDTH} y1={y(wanted.limit)} y2={y(wanted.limit)} />
      <path className={styles.line} d={path ?? ""} />
      {points.map(({ id, at, value }) => (
        <circle
          key={id}
          className={reaches(wanted, value) ? styles.met : styles.missed}
          cx={x(id)}
          cy={y(value)}
          r={3.2}
        >
          <title>{`${wanted.format(value)} · ${moment(at)}`}</title>
        </circle>
      ))}
    </svg>
  );
}
