import type { Diagnostic } from "@codemirror/lint";
import type { Text } from "@codemirror/state";

import type { Schema } from "@/api/client";

export type PolicyProblem = Schema["PolicyProblem"];

/** What the engine says is wrong with a policy, where the editor marks it.
 *
 * A problem names the place where its key begins; what is marked goes on to the end of that line. One
 * without a place is the whole text's, and stands at its beginning.
 */
export function toDiagnostics(problems: readonly PolicyProblem[], text: Text): Diagnostic[] {
  return problems.map((problem) => {
    const { from, to } = span(problem, text);
    return {
      from,
      to,
      severity: "error",
      source: "policy",
      message: `${problem.field ? `${problem.field}: ` : ""}${ended(problem.problem)} Fix: ${ended(problem.fix)}`,
    };
  });
}

/** A clause as a sentence, which may be a question already. */
export function ended(clause: string): string {
  return /[.?!]$/.test(clause) ? clause : `${clause}.`;
}

function span({ line, column }: PolicyProblem, text: Text): { from: number; to: number } {
  if (line === null) return { from: 0, to: text.line(1).to };
  const found = text.line(Math.min(Math.max(line, 1), text.lines));
  const from = Math.min(found.from + Math.max((column ?? 1) - 1, 0), found.to);
  if (from < found.to) return { from, to: found.to };
  // At the end of a line, or on an empty one, there is nothing to underline but what is before.
  return { from: Math.max(found.from, from - 1), to: found.to };
}
