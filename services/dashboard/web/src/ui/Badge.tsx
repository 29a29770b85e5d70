import {
  Ban,
  CircleCheck,
  CircleDashed,
  CircleX,
  Info,
  LoaderCircle,
  TriangleAlert,
  type LucideIcon,
} from "lucide-react";
import type { ReactNode } from "react";

import styles from "./Badge.module.css";

export type Tone = "good" | "warn" | "bad" | "info" | "idle";

const ICONS: Record<Tone, LucideIcon> = {
  good: CircleCheck,
  warn: TriangleAlert,
  bad: CircleX,
  info: Info,
  idle: CircleDashed,
};

interface BadgeProps {
  tone?: Tone;
  icon?: LucideIcon | null;
  children: ReactNode;
}

/** A word with a sign: a state. */
export function Badge({ tone = "idle", icon, children }: BadgeProps) {
  const Icon = icon === undefined ? ICONS[tone] : icon;
  return (
    <span className={`${styles.badge} ${styles[tone] ?? ""}`}>
      {Icon && <Icon size={13} aria-hidden />}
      {children}
    </span>
  );
}

const JOB_STATES: Record<string, [Tone, string, LucideIcon?]> = {
  QUEUED: ["idle", "queued"],
  RUNNING: ["info", "running", LoaderCircle],
  SUCCEEDED: ["good", "succeeded"],
  FAILED: ["bad", "failed"],
  CANCELLED: ["idle", "cancelled", Ban],
  DEAD_LETTERED: ["bad", "gave up"],
};

/** The state of a job. */
export function JobBadge({ state, stopping = false }: { state: string; stopping?: boolean }) {
  const [tone, word, icon] = JOB_STATES[state] ?? ["idle", state.toLowerCase()];
  if (stopping && state === "RUNNING") return <Badge tone="warn">stopping</Badge>;
  return (
    <Badge tone={tone} icon={icon}>
      {word}
    </Badge>
  );
}

const POLICY_STATES: Record<string, Tone> = {
  draft: "idle",
  proposed: "warn",
  approved: "info",
  active: "good",
  retired: "idle",
};

/** The state of a policy's version. */
export function PolicyBadge({ state }: { state: string }) {
  return <Badge tone={POLICY_STATES[state] ?? "idle"}>{state}</Badge>;
}
