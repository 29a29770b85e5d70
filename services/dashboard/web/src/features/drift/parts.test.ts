import { expect, test } from "vitest";

import type { Schema } from "@/api/client";

import { ceiling, circuitOf, inWords, points } from "./parts";

const LIMITS: Schema["DriftLimits"] = {
  alpha: 0.001,
  psi_watch: 0.1,
  psi_drift: 0.25,
  firing_change: 0.05,
  feature_change: 0.1,
  requests: 100,
};

function part(hour: number, requests: number, psi?: number): Schema["TrafficPart"] {
  const at = (h: number) => `2026-03-01T${String(h).padStart(2, "0")}:00:00Z`;
  return { since: at(hour), until: at(hour + 1), requests, verdict: "stable", ...(psi !== undefined && { psi }) };
}

test("a part without requests has no value, and none is taken for nothing", () => {
  const shown = points([part(1, 200, 0.02), part(2, 0), part(3, 150, 0.4)]);
  expect(shown.map(({ psi }) => psi)).toEqual([0.02, null, 0.4]);
  expect(inWords(shown, LIMITS)).toBe("2 of 3 parts had requests; in 1 the index was at or above 0.25.");
});

test("the limit is always on the scale, and so is the highest value", () => {
  expect(ceiling(points([part(1, 10, 0.01)]), LIMITS)).toBeCloseTo(0.35);
  expect(ceiling(points([part(1, 10, 2)]), LIMITS)).toBeCloseTo(2.2);
});

test("the circuit of a policy is read from its text", () => {
  const id = "cx_01J9Z3W8Q5C2M7N4R6T8V0X1Y3";
  expect(circuitOf(`meta:\n  id: a\n  circuit: ${id}\n`)).toBe(id);
  expect(circuitOf(`meta: {id: a}\ninterventions: []\n`)).toBeNull();
  expect(circuitOf(`meta:\n  id: circuit\n  dictionary: sae_1\n`)).toBeNull();
});
