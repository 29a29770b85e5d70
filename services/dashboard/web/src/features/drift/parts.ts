import type { Schema } from "@/api/client";

type Part = Schema["TrafficPart"];
type Limits = Schema["DriftLimits"];

/** What a part of the window is shown by. */
export interface Point {
  since: Date;
  until: Date;
  requests: number;
  psi: number | null;
  verdict: Part["verdict"];
}

/** The parts as points in time; those without requests have no value, and so no mark. */
export function points(parts: readonly Part[]): Point[] {
  return parts.map(({ since, until, requests, psi, verdict }) => ({
    since: new Date(since),
    until: new Date(until),
    requests,
    psi: requests > 0 ? (psi ?? null) : null,
    verdict,
  }));
}

/** The top of the scale: above the limit, so that one sees how far below it is. */
export function ceiling(shown: readonly Point[], limits: Limits): number {
  return Math.max(limits.psi_drift * 1.4, ...shown.map(({ psi }) => (psi ?? 0) * 1.1));
}

/** In words what the chart shows, for those who do not see it. */
export function inWords(shown: readonly Point[], limits: Limits): string {
  const measured = shown.filter((point) => point.psi !== null);
  const above = measured.filter(({ psi }) => (psi ?? 0) >= limits.psi_drift);
  return `${measured.length} of ${shown.length} parts had requests; in ${above.length} the index was at or above ${limits.psi_drift}.`;
}

/** The circuit that a policy's text says it came from. */
export function circuitOf(yaml: string): string | null {
  return /^ {2}circuit:\s*["']?(cx_[0-9A-HJKMNP-TV-Z]{26})/m.exec(yaml)?.[1] ?? null;
}
