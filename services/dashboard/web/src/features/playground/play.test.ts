import { expect, test } from "vitest";

import { newPlay, withEvent } from "./play";

const RECORD = { policy: "p", policy_sha256: "a", fired: true, score: 2, threshold: 1, units: [], steps: 1 };

test("each side grows by what is told of it", () => {
  let play = newPlay(1, "hello", "p");
  play = withEvent(play, "started", { side: "steered", prompt_tokens: 7, record: RECORD });
  play = withEvent(play, "tokens", { side: "steered", text: " I", tokens: [{ id: 3, text: " I", logprob: -1 }] });
  play = withEvent(play, "tokens", { side: "steered", text: " am", tokens: [{ id: 4, text: " am", logprob: -2 }] });
  expect(play.baseline.tokens).toEqual([]);
  expect(play.steered.text).toBe(" I am");
  expect(play.steered.record?.score).toBe(2);
  play = withEvent(play, "finished", {
    side: "steered",
    reason: "length",
    seconds: 2,
    first_token_seconds: 1,
    record: { ...RECORD, steps: 3 },
  });
  play = withEvent(play, "compared", { side: "steered", baseline_logprobs: [-3, -2] });
  expect(play.steered.record?.steps).toBe(3);
  expect(play.steered.finished?.reason).toBe("length");
  expect(play.steered.baseline_logprobs).toEqual([-3, -2]);
  expect(play.running).toBe(true);
  expect(withEvent(play, "done", {}).running).toBe(false);
});

test("a problem in the stream ends it", () => {
  const play = withEvent(newPlay(1, "x", "p"), "problem", { status: 500, title: "E", detail: "it broke" });
  expect([play.running, play.problem?.detail]).toEqual([false, "it broke"]);
});
