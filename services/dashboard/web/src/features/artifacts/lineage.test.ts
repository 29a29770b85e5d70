import { expect, test } from "vitest";

import type { Schema } from "@/api/client";

import { placed } from "./lineage";

function artifact(id: string, ...parents: string[]) {
  return { id, parents } as Schema["ArtifactDocument"];
}

test("parents stand left of all their children, and nothing stands on anything else", () => {
  const found = placed([
    artifact("tr"),
    artifact("sae", "tr"),
    artifact("cx", "tr", "sae"),
    artifact("pol"),
    artifact("rc", "pol", "cx"),
    artifact("rp", "rc"),
  ]);
  expect(found.map(({ artifact: { id }, column }) => [id, column])).toEqual([
    ["tr", 0],
    ["sae", 1],
    ["cx", 2],
    ["pol", 0],
    ["rc", 3],
    ["rp", 4],
  ]);
  expect(new Set(found.map(({ column, row }) => `${column} ${row}`)).size).toBe(6);
});

test("a parent that retention deleted is no reason to fail", () => {
  expect(placed([artifact("rc", "gone")])[0]).toMatchObject({ column: 0, row: 0 });
});
