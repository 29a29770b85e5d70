import { figure, count } from "./format";
import styles from "./Figure.module.css";

interface FigureProps {
  value: number;
  /** Ends of the interval; absent where too few topics bear one. */
  interval?: readonly [number, number] | null | undefined;
  n?: number | null | undefined;
  /** How a number is written; `percent` for shares. */
  format?: (value: number) => string;
  large?: boolean;
}

/** A measured figure with its interval and count: `47 % [36 %, 55 %] n 152`. */
export function Figure({ value, interval, n, format = figure, large = false }: FigureProps) {
  return (
    <span className={large ? `${styles.figure} ${styles.large}` : styles.figure}>
      <span className={styles.value}>{format(value)}</span>
      {interval ? (
        <span className={styles.doubt} title="95 % interval">
          [{format(interval[0])}, {format(interval[1])}]
        </span>
      ) : (
        <span className={styles.doubt} title="too few topics bear an interval">
          no interval
        </span>
      )}
      {n !== null && n !== undefined && <span className={styles.doubt}>n {count(n)}</span>}
    </span>
  );
}
