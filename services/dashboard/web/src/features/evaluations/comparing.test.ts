import { expect, test } from "vitest";

import type { RiskCard } from "./card";
import { apart, comparable, compareSuites } from "./comparing";

const figure = (value: number) => ({ value, low: value - 0.1, high: value + 0.2, n: 10 });

function card(asr: number, prompts = "a", policy = "p"): RiskCard {
  const pair = { baseline: figure(0.9), steered: figure(asr), change: figure(asr - 0.9) };
  return {
    model: { name: "m", fingerprint: "f" },
    policy: { sha256: policy },
    suites: [
      { name: "s", dataset: "d", prompts_sha256: prompts, n: 10, metrics: { attack_success_rate: pair }, by_category: {}, by_wrapper: {} },
      { name: policy, dataset: "d", prompts_sha256: "", n: 1, metrics: {}, by_category: {}, by_wrapper: {} },
    ],
  } as unknown as RiskCard;
}

test("steered figures stand beside one another where both have them", () => {
  const [suite, ...rest] = compareSuites(card(0.5), card(0.3, "a", "q"));
  expect(rest).toEqual([]);
  expect(suite?.rows[0]?.pair.baseline.value).toBe(0.5);
  expect(suite?.rows[0]?.pair.steered.value).toBe(0.3);
});

test("a difference's interval is as wide as both together", () => {
  const found = apart(figure(0.5), figure(0.3));
  expect(found.value).toBeCloseTo(-0.2);
  expect(found.low).toBeCloseTo(-0.2 - Math.hypot(0.1, 0.2));
  expect(found.high).toBeCloseTo(-0.2 + Math.hypot(0.2, 0.1));
  expect(apart({ value: 1, n: 2 }, figure(2)).low).toBeUndefined();
});

test("what makes cards hard to compare is said", () => {
  expect(comparable(card(0.5), card(0.3, "a", "q"))).toEqual([]);
  expect(comparable(card(0.5), card(0.3, "b", "q"))).toEqual([
    "s asked other prompts, or another number of them (10 and 10).",
  ]);
  expect(comparable(card(0.5), card(0.3))[0]).toMatch("same policy");
});
