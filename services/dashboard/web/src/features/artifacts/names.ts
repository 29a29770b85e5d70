const KINDS: Record<string, string> = {
  trace: "Trace",
  dictionary: "Dictionary",
  circuit: "Circuit",
  policy: "Policy",
  risk_card: "Risk Card",
  report: "Report",
};

/** A kind of artifact, in words. */
export function artifactKindName(kind: string): string {
  return KINDS[kind] ?? kind;
}
