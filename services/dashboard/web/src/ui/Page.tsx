import type { ReactNode } from "react";

import styles from "./Page.module.css";

interface PageProps {
  title: ReactNode;
  /** One sentence: what this page is for. */
  lead?: ReactNode;
  /** Buttons at the right of the title. */
  actions?: ReactNode;
  children: ReactNode;
}

/** A page: title, what it is for, what can be done, and the content. */
export function Page({ title, lead, actions, children }: PageProps) {
  return (
    <div className={styles.page}>
      <div className={styles.head}>
        <div>
          <h1>{title}</h1>
          {lead !== undefined && <p className={styles.lead}>{lead}</p>}
        </div>
        {actions !== undefined && <div className={styles.actions}>{actions}</div>}
      </div>
      {children}
    </div>
  );
}

interface SectionProps {
  title: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  /** Without a frame around it. */
  bare?: boolean;
}

/** A part of a page, in a frame. */
export function Section({ title, actions, children, bare = false }: SectionProps) {
  return (
    <section className={bare ? undefined : styles.section}>
      <div className={styles.sectionHead}>
        <h2>{title}</h2>
        {actions}
      </div>
      {children}
    </section>
  );
}
