import styles from "./Progress.module.css";

interface ProgressProps {
  /** What is being done. */
  label: string;
  done: number;
  /** Steps there are; 0 when unknown. */
  total: number;
}

/** A bar that fills. */
export function Progress({ label, done, total }: ProgressProps) {
  const share = total > 0 ? Math.min(1, done / total) : null;
  return (
    <progress
      className={styles.bar}
      aria-label={label}
      max={1}
      {...(share !== null && { value: share })}
    />
  );
}
