import { expect, test } from "vitest";

import { barRows, direction, domain, verdict, writer, type Criterion, type Pair, type SuiteResult } from "./card";

const PAIR: Pair = {
  baseline: { value: 0.8, low: 0.7, high: 0.9, n: 20 },
  steered: { value: 0.3, low: 0.2, high: 0.5, n: 20 },
  change: { value: -0.5, low: -0.7, high: -0.2, n: 20 },
};
const POINT: Pair = {
  baseline: { value: 3, n: 2 },
  steered: { value: 4, n: 2 },
  change: { value: 1, n: 2 },
};
const SUITE: SuiteResult = {
  name: "s",
  dataset: "d",
  prompts_sha256: "",
  n: 20,
  metrics: { attack_success_rate: PAIR, refusal_rate: PAIR },
  by_category: { theft: { attack_success_rate: PAIR }, fraud: { refusal_rate: PAIR } },
  by_wrapper: {},
};

test("rows are metrics, or the groups that have the metric", () => {
  expect(barRows(SUITE, "all", "").map(({ name }) => name)).toEqual(["attack_success_rate", "refusal_rate"]);
  expect(barRows(SUITE, "category", "attack_success_rate").map(({ label }) => label)).toEqual(["theft"]);
  expect(barRows(SUITE, "wrapper", "attack_success_rate")).toEqual([]);
});

test("shares are drawn from 0 to 1, other figures as far as they reach", () => {
  expect(domain(barRows(SUITE, "all", ""))).toEqual([0, 1]);
  const rows = [{ key: "p", label: "p", name: "perplexity", pair: POINT }];
  expect(domain(rows)[1]).toBeCloseTo(4.2);
});

test("a change is told only where its interval leaves out 0", () => {
  expect(direction(PAIR.change)).toBe("less");
  expect(direction({ value: 0.1, low: -0.1, high: 0.3, n: 5 })).toBe("unclear");
  expect(direction(POINT.change)).toBe("unclear");
});

test("a criterion that is met by its point alone says so", () => {
  const criterion: Criterion = {
    name: "defense_efficacy",
    source: "win line",
    sense: "at least",
    limit: 0.5,
    value: PAIR.baseline,
    passed: true,
    supported: false,
  };
  expect(verdict(criterion)).toEqual({ tone: "warn", words: "met, in doubt" });
  expect(verdict({ ...criterion, value: null }).words).toBe("not measured");
  expect(verdict({ ...criterion, passed: false }).tone).toBe("bad");
});

test("figures are written in the unit of their metric", () => {
  expect(writer("attack_success_rate")(0.125)).toBe("12.5 %");
  expect(writer("latency_overhead_pct")(7.25)).toMatch(/^7\.[23] %$/);
  expect(writer("perplexity")(12.3456)).toBe("12.3");
});
