import { Text } from "@codemirror/state";
import { expect, test } from "vitest";

import { toDiagnostics } from "./diagnostics";

const TEXT = Text.of(["meta:", "  id: p", "interventions:", "  - tpye: feature_clamp", ""]);

function marked(line: number | null, column: number | null): string {
  const [found] = toDiagnostics(
    [{ field: "a.b", line, column, problem: "is wrong", fix: "put it right" }],
    TEXT,
  );
  return found === undefined ? "" : TEXT.sliceString(found.from, found.to);
}

test("a problem marks from its key to the end of the line", () => {
  expect(marked(4, 5)).toBe("tpye: feature_clamp");
});

test("one without a place marks the first line", () => {
  expect(marked(null, null)).toBe("meta:");
});

test("places behind the text stay in it", () => {
  expect(marked(1, 60)).toBe(":");
  expect(marked(99, 9)).toBe("");
});

test("a fix that asks is not ended twice", () => {
  const problem = { field: "", line: 1, column: 1, problem: "is unknown", fix: "did you mean 'b'?" };
  expect(toDiagnostics([problem], TEXT)[0]?.message).toBe("is unknown. Fix: did you mean 'b'?");
});

test("the message names key, problem and fix", () => {
  const [found] = toDiagnostics(
    [{ field: "a.b", line: 1, column: 1, problem: "is wrong", fix: "put it right" }],
    TEXT,
  );
  expect(found?.message).toBe("a.b: is wrong. Fix: put it right.");
});
