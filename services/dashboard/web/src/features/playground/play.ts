import { asProblem, OURS, ProblemError, SIGNED_OUT, type Problem, type Schema } from "@/api/client";
import { readEvents } from "@/api/events";

import type { PlayedToken } from "./difference";

export type SideName = "baseline" | "steered";

/** What a policy decided and did. */
export interface PlayRecord {
  policy: string;
  policy_sha256: string;
  fired: boolean;
  score: number | null;
  threshold: number | null;
  units: string[];
  steps: number;
}

/** One of the two answers, as far as it has come. */
export interface Side {
  text: string;
  tokens: PlayedToken[];
  prompt_tokens: number | null;
  record: PlayRecord | null;
  finished: { reason: "stop" | "length"; seconds: number; first_token_seconds: number } | null;
  /** Log-probability of each token under the bare model. */
  baseline_logprobs: number[] | null;
}

/** A prompt as it was played. */
export interface Play {
  key: number;
  prompt: string;
  policy: string;
  baseline: Side;
  steered: Side;
  problem: Problem | null;
  running: boolean;
}

const EMPTY: Side = {
  text: "",
  tokens: [],
  prompt_tokens: null,
  record: null,
  finished: null,
  baseline_logprobs: null,
};

export function newPlay(key: number, prompt: string, policy: string): Play {
  return { key, prompt, policy, baseline: EMPTY, steered: EMPTY, problem: null, running: true };
}

type Told = Partial<Side> & {
  side: SideName;
  reason?: "stop" | "length";
  seconds?: number;
  first_token_seconds?: number;
};

/** The play after something was told of it. */
export function withEvent(play: Play, name: string, data: unknown): Play {
  if (name === "problem") return { ...play, problem: asProblem(data), running: false };
  if (name === "done") return { ...play, running: false };
  const told = data as Told;
  const before = play[told.side];
  return { ...play, [told.side]: sideWith(before, name, told) };
}

function sideWith(side: Side, name: string, told: Told): Side {
  switch (name) {
    case "started":
      return { ...side, prompt_tokens: told.prompt_tokens ?? null, record: told.record ?? null };
    case "tokens":
      return {
        ...side,
        text: side.text + (told.text ?? ""),
        tokens: [...side.tokens, ...(told.tokens ?? [])],
      };
    case "finished":
      return {
        ...side,
        record: told.record ?? side.record,
        finished: {
          reason: told.reason ?? "stop",
          seconds: told.seconds ?? 0,
          first_token_seconds: told.first_token_seconds ?? 0,
        },
      };
    case "compared":
      return { ...side, baseline_logprobs: told.baseline_logprobs ?? null };
    default:
      return side; // what a later edge may tell
  }
}

/** Ask for both answers, and tell what comes of them.
 *
 * @throws ProblemError when the edge refuses.
 */
export async function ask(
  body: Schema["PlaygroundBody"],
  signal: AbortSignal,
  onEvent: (name: string, data: unknown) => void,
): Promise<void> {
  const answer = await fetch("/api/playground", {
    method: "POST",
    headers: { ...OURS, "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify(body),
    signal,
  });
  if (answer.status === 401) window.dispatchEvent(new Event(SIGNED_OUT));
  if (!answer.ok || answer.body === null) {
    throw new ProblemError(asProblem(await answer.json().catch(() => answer.statusText)));
  }
  const last = await readEvents(answer.body, (event) =>
    onEvent(event.event ?? "message", JSON.parse(event.data)),
  );
  if (last?.event !== "done" && last?.event !== "problem") {
    throw new Error("the connection broke before both answers were whole; play it again");
  }
}
