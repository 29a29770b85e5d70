import { LoaderCircle } from "lucide-react";

import styles from "./State.module.css";

/** Something is on its way. */
export function Loading({ what }: { what: string }) {
  return (
    <p role="status" className={styles.loading}>
      <LoaderCircle size={16} className={styles.spin} aria-hidden />
      Loading {what}…
    </p>
  );
}
