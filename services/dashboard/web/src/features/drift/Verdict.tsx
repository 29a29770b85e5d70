import type { Schema } from "@/api/client";
import { Badge, type Tone } from "@/ui/Badge";

type Name = Schema["DriftReport"]["verdict"];

const VERDICTS: Record<Name, readonly [Tone, string]> = {
  too_few: ["idle", "too few requests"],
  stable: ["good", "stable"],
  watch: ["warn", "watch"],
  drifted: ["bad", "drifted"],
};

/** What came of a comparison, as a word with its sign. */
export function Verdict({ of: verdict }: { of: Name }) {
  const [tone, word] = VERDICTS[verdict];
  return <Badge tone={tone}>{word}</Badge>;
}
