import { expect, test } from "vitest";

import { readLayers, readPairs, STEPS } from "./pipeline";

test("pairs are a line each, with a tab or an arrow between", () => {
  expect(readPairs("rob a shop => see a shop\n\n  pick a lock\tpick a book ")).toEqual([
    { risky: "rob a shop", harmless: "see a shop" },
    { risky: "pick a lock", harmless: "pick a book" },
  ]);
  expect(() => readPairs("a => b\nonly one")).toThrow("Line 2");
  expect(() => readPairs("a => b => c")).toThrow("Line 1");
});

test("layers are numbers, each once", () => {
  expect(readLayers("14, 18 14")).toEqual([14, 18]);
  for (const wrong of ["", "1.5", "-1", "a", "1,2,3,4,5,6,7,8,9"]) {
    expect(() => readLayers(wrong)).toThrow("such as 14, 18");
  }
});

test("steps come in the order of the work", () => {
  expect(STEPS.map(({ name }) => name)).toEqual([
    "trace",
    "dictionary",
    "circuit",
    "policy",
    "evaluation",
    "report",
  ]);
});
