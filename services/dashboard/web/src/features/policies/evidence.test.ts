import { expect, test } from "vitest";

import { extent, frontLine, type FrontPoint } from "./evidence";

function point(de: number | null, cd: number, efficient = true): FrontPoint {
  const figure = (value: number) => ({ value, low: value - 0.1, high: value + 0.1, n: 32 });
  return {
    trial: 0,
    budget: 0.01,
    threshold: 1,
    fired_risky: 0.5,
    fired_harmless: 0.01,
    defense_efficacy: de === null ? null : figure(de),
    collateral_damage: figure(cd),
    efficient,
    chosen: false,
    file: "front/00.yaml",
  };
}

test("the line goes over efficient points, from the least damage on", () => {
  const points = [point(0.9, 0.1), point(0.3, 0.01), point(0.5, 0.05, false), point(null, 0)];
  expect(frontLine(points).map(({ collateral_damage: cd }) => cd.value)).toEqual([0.01, 0.1]);
});

test("a chart holds every interval, and the win line", () => {
  expect(extent([point(0.2, 0.01)]).efficacy).toEqual([0, 0.6]);
  expect(extent([point(0.9, 0.2)]).efficacy[1]).toBeCloseTo(1);
  expect(extent([point(0.9, 0.2)]).damage).toEqual([0, expect.closeTo(0.3)]);
});
