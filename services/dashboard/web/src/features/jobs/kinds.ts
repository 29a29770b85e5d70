const NAMES: Record<string, string> = {
  trace: "Trace",
  sae: "Train dictionary",
  circuit: "Find circuit",
  policy: "Fit policy",
  eval: "Evaluate",
  report: "Write report",
};

/** What a job of this kind does, in words. */
export function kindName(kind: string): string {
  return NAMES[kind] ?? kind;
}
