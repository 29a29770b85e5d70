/** The kinds of jobs, in the order of the work. */
export const KINDS = [
  { value: "trace", label: "Trace" },
  { value: "sae", label: "Train dictionary" },
  { value: "circuit", label: "Find circuit" },
  { value: "policy", label: "Fit policy" },
  { value: "eval", label: "Evaluate" },
  { value: "report", label: "Write report" },
] as const;

export const STATES = [
  { value: "QUEUED", label: "Queued" },
  { value: "RUNNING", label: "Running" },
  { value: "SUCCEEDED", label: "Succeeded" },
  { value: "FAILED", label: "Failed" },
  { value: "CANCELLED", label: "Cancelled" },
  { value: "DEAD_LETTERED", label: "Given up" },
] as const;

/** What a job of this kind does, in words. */
export function kindName(kind: string): string {
  return KINDS.find(({ value }) => value === kind)?.label ?? kind;
}
