/** Lines of a unified diff, for reading. */

export type LineKind = "same" | "gone" | "new" | "gap";

export interface DiffLine {
  kind: LineKind;
  /** Line number in the older text; null where it is only in the newer. */
  older: number | null;
  newer: number | null;
  text: string;
}

const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/;

/** The lines of a unified diff with their numbers on both sides; none where nothing changed. */
export function diffLines(diff: string): DiffLine[] {
  const lines: DiffLine[] = [];
  let older = 0;
  let newer = 0;
  let inside = false;
  for (const line of diff === "" ? [] : diff.split("\n")) {
    const hunk = HUNK.exec(line);
    if (hunk) {
      older = Number(hunk[1]);
      newer = Number(hunk[2]);
      if (inside || older > 1) lines.push({ kind: "gap", older: null, newer: null, text: "" });
      inside = true;
    } else if (!inside) {
      continue; // the names of both sides
    } else if (line.startsWith("-")) {
      lines.push({ kind: "gone", older, newer: null, text: line.slice(1) });
      older += 1;
    } else if (line.startsWith("+")) {
      lines.push({ kind: "new", older: null, newer, text: line.slice(1) });
      newer += 1;
    } else {
      lines.push({ kind: "same", older, newer, text: line.slice(1) });
      older += 1;
      newer += 1;
    }
  }
  return lines;
}
