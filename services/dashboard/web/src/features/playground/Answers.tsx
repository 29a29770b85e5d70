"use client";

import { useMemo, useState } from "react";

import { duration, figure } from "@/ui/format";
import { Section } from "@/ui/Page";

import { difference, type PlayedToken } from "./difference";
import type { Play, Side } from "./play";
import styles from "./Playground.module.css";

type Colouring = "difference" | "shift";

/** Both answers, token by token, with what the policy changed marked. */
export function Answers({ play }: { play: Play }) {
  const [by, setBy] = useState<Colouring>("difference");
  const { baseline, steered } = play;
  const found = useMemo(() => difference(baseline.tokens, steered.tokens), [baseline.tokens, steered.tokens]);
  const whole = baseline.finished !== null && steered.finished !== null;
  return (
    <div className={styles.stack}>
      <fieldset className={styles.switch}>
        <legend className="visually-hidden">What is marked in the steered answer</legend>
        {(
          [
            ["difference", "Tokens that changed"],
            ["shift", "How much likelier the policy made each token"],
          ] as const
        ).map(([value, label]) => (
          <label key={value}>
            <input
              type="radio"
              name="colouring"
              checked={by === value}
              onChange={() => setBy(value)}
            />
            {label}
          </label>
        ))}
      </fieldset>
      <div className={styles.answers}>
        <Section title="The bare model">
          <Answer side={baseline} kept={found.baseline} mark={by === "difference" ? "gone" : null} />
        </Section>
        <Section title={`Under ${play.policy}`}>
          <Answer
            side={steered}
            kept={found.steered}
            mark={by === "difference" ? "new" : "shift"}
          />
        </Section>
      </div>
      <p className={styles.faint} role="status">
        {!whole
          ? play.running
            ? "Answering…"
            : "Stopped before both answers were whole."
          : found.first === null
            ? "Both answers are the same, token for token."
            : `${found.changed} of ${steered.tokens.length} tokens differ, from token ${found.first + 1} on.`}
      </p>
      {by === "shift" && <Legend />}
      {whole && <Tokens side={steered} kept={found.steered} />}
    </div>
  );
}

interface AnswerProps {
  side: Side;
  kept: readonly boolean[];
  mark: "gone" | "new" | "shift" | null;
}

function Answer({ side, kept, mark }: AnswerProps) {
  const { finished, tokens } = side;
  return (
    <>
      <p className={styles.answer} data-testid="answer">
        {tokens.map((token, at) => (
          <span key={at} className={className(mark, kept[at] ?? true, shift(side, at))} title={titleOf(token, shift(side, at))}>
            {token.text}
          </span>
        ))}
        {finished === null && <span className={styles.caret} aria-hidden />}
      </p>
      <p className={styles.faint}>
        {finished === null
          ? `${tokens.length} tokens so far`
          : `${tokens.length} tokens${finished.reason === "length" ? ", cut at the limit" : ""} · first after ${duration(finished.first_token_seconds)} · all after ${duration(finished.seconds)}`}
      </p>
    </>
  );
}

/** By how much the policy raised the log-probability of a token; null until it is known. */
function shift(side: Side, at: number): number | null {
  const bare = side.baseline_logprobs?.[at];
  const now = side.tokens[at]?.logprob;
  return bare === undefined || now === undefined ? null : now - bare;
}

function className(mark: AnswerProps["mark"], same: boolean, raised: number | null): string | undefined {
  if (mark === "gone") return same ? undefined : styles.gone;
  if (mark === "new") return same ? undefined : styles.new;
  if (mark === "shift" && raised !== null) {
    const size = Math.abs(raised);
    const step = size < 0.5 ? 0 : size < 2 ? 1 : size < 5 ? 2 : 3;
    return step === 0 ? undefined : styles[`${raised > 0 ? "up" : "down"}${step}`];
  }
  return undefined;
}

function titleOf({ logprob }: PlayedToken, raised: number | null): string {
  const chance = `log-probability ${figure(logprob)}`;
  return raised === null ? chance : `${chance}; ${raised >= 0 ? "+" : ""}${figure(raised)} by the policy`;
}

function Legend() {
  return (
    <p className={styles.legend}>
      {(
        [
          ["down1", "less likely, by 0.5 nats or more"],
          ["up1", "likelier by 0.5"],
          ["up2", "by 2"],
          ["up3", "by 5 and more"],
        ] as const
      ).map(([step, words]) => (
        <span key={step}>
          <span className={styles[step]}>token</span> {words}
        </span>
      ))}
    </p>
  );
}

/** The table behind the colours. */
function Tokens({ side, kept }: { side: Side; kept: readonly boolean[] }) {
  return (
    <details className={styles.details}>
      <summary>Every token of the steered answer, with its log-probabilities</summary>
      {/* A long table scrolls by itself. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className={styles.scroll} role="region" aria-label="Tokens of the steered answer" tabIndex={0}>
        <table className={styles.tokens}>
          <thead>
            <tr>
              <th scope="col">#</th>
              <th scope="col">Token</th>
              <th scope="col">Under the policy</th>
              <th scope="col">Under the bare model</th>
              <th scope="col">Raised by</th>
              <th scope="col">In both answers</th>
            </tr>
          </thead>
          <tbody>
            {side.tokens.map((token, at) => {
              const raised = shift(side, at);
              return (
                <tr key={at}>
                  <td>{at + 1}</td>
                  <th scope="row">
                    <code>{JSON.stringify(token.text).slice(1, -1)}</code>
                  </th>
                  <td>{figure(token.logprob)}</td>
                  <td>{raised === null ? "" : figure(token.logprob - raised)}</td>
                  <td>{raised === null ? "" : figure(raised)}</td>
                  <td>{kept[at] === true ? "yes" : "no"}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </details>
  );
}
