import { expect, test } from "vitest";

import { diffLines } from "./diff";

const DIFF = `--- p@1
+++ p@2
@@ -3,4 +3,5 @@
 condition:
-  threshold: 1.0
+  threshold: 1.25
+  # stricter
   probe:
@@ -20 +21,0 @@
-evaluation: {}`;

test("lines carry the numbers of both sides", () => {
  expect(diffLines(DIFF).map(({ kind, older, newer }) => [kind, older, newer])).toEqual([
    ["gap", null, null],
    ["same", 3, 3],
    ["gone", 4, null],
    ["new", null, 4],
    ["new", null, 5],
    ["same", 5, 6],
    ["gap", null, null],
    ["gone", 20, null],
  ]);
});

test("the signs are not part of the text, and what begins with dashes is a line as well", () => {
  const lines = diffLines("--- a\n+++ b\n@@ -1,2 +1 @@\n--- list item\n x");
  expect(lines.map(({ kind, text }) => [kind, text])).toEqual([
    ["gone", "-- list item"],
    ["same", "x"],
  ]);
});

test("texts that are the same have no lines", () => {
  expect(diffLines("")).toEqual([]);
});
