import { Inbox, type LucideIcon } from "lucide-react";
import type { ReactNode } from "react";

import styles from "./State.module.css";

interface EmptyStateProps {
  title: string;
  icon?: LucideIcon;
  /** What would be here, and how it comes about. */
  children?: ReactNode;
  /** What to do first. */
  action?: ReactNode;
  compact?: boolean;
  /** It is all there is on the page, so that its title is the page's. */
  alone?: boolean;
}

/** There is nothing here yet. */
export function EmptyState({
  title,
  icon: Icon = Inbox,
  children,
  action,
  compact = false,
  alone = false,
}: EmptyStateProps) {
  const Heading = alone ? "h1" : "h2";
  return (
    <div className={compact ? `${styles.state} ${styles.compact}` : styles.state}>
      <Icon size={28} strokeWidth={1.5} aria-hidden />
      <Heading>{title}</Heading>
      {children !== undefined && <div>{children}</div>}
      {action}
    </div>
  );
}
