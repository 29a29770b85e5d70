import { CircleX } from "lucide-react";

import { asProblem } from "@/api/client";

import { Button } from "./Button";
import styles from "./State.module.css";

interface ErrorStateProps {
  /** What was thrown or answered. */
  problem: unknown;
  retry?: (() => void) | undefined;
  compact?: boolean;
}

/** Something failed: what is wrong, what to do about it, and what to tell whoever looks into it. */
export function ErrorState({ problem, retry, compact = false }: ErrorStateProps) {
  const { detail, fix, request_id: request, title } = asProblem(problem);
  const Heading = compact ? "h2" : "h1"; // alone on a page, it is what the page is about
  return (
    <div
      role="alert"
      className={[styles.state, styles.bad, compact && styles.compact].filter(Boolean).join(" ")}
    >
      <CircleX size={28} strokeWidth={1.5} aria-hidden />
      <Heading>{sentence(detail || title)}</Heading>
      {fix && <p>{sentence(fix)}.</p>}
      {retry && <Button onClick={retry}>Try again</Button>}
      {request && <p className={styles.small}>Request {request}</p>}
    </div>
  );
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
