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
}

/** There is nothing here yet. */
export function EmptyState({
  title,
  icon: Icon = Inbox,
  children,
  action,
  compact = false,
}: EmptyStateProps) {
  return (
    <div className={compact ? `${styles.state} ${styles.compact}` : styles.state}>
      <Icon size={28} strokeWidth={1.5} aria-hidden />
      <h2>{title}</h2>
      {children !== undefined && <div>{children}</div>}
      {action}
    </div>
  );
}
