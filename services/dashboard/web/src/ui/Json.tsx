import styles from "./Json.module.css";

/** A value as it is, to read. */
export function Json({ value, label }: { value: unknown; label: string }) {
  return (
    // It scrolls by itself, which a keyboard must be able to do as well.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <pre className={styles.json} role="region" aria-label={label} tabIndex={0}>
      {JSON.stringify(value, null, 2)}
    </pre>
  );
}
