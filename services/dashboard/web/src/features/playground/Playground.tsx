"use client";

import { Play as PlayIcon, Square, SquarePen } from "lucide-react";
import { useEffect, useRef, useState, type SyntheticEvent } from "react";

import { asProblem } from "@/api/client";
import { keptDraft, nameOf, type Draft } from "@/features/policies/draft";
import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { formReader } from "@/ui/form";
import { LinkButton } from "@/ui/LinkButton";
import { Page, Section } from "@/ui/Page";
import { useUrlState } from "@/ui/url";

import { Answers } from "./Answers";
import { Decision } from "./Decision";
import { Earlier } from "./Earlier";
import { ask, newPlay, withEvent, type Play } from "./play";
import styles from "./Playground.module.css";
import { PolicyChoice } from "./PolicyChoice";

const KEPT = 50;

/** One prompt, the bare model and a policy side by side. */
export function Playground() {
  const [query, set] = useUrlState();
  const [draft, setDraft] = useState<Draft | null>(null);
  const wantsDraft = query.get("draft") !== null;
  useEffect(() => {
    // After the first drawing: the server drew none, and knows of no draft.
    setDraft(keptDraft());
  }, []);
  const chosen = wantsDraft ? "draft" : (query.get("policy") ?? "");
  const [plays, setPlays] = useState<readonly Play[]>([]);
  const [shown, setShown] = useState<number | null>(null);
  const stop = useRef<AbortController | null>(null);
  const form = useRef<HTMLFormElement>(null);
  const play = plays.find(({ key }) => key === shown) ?? plays[0];
  const running = plays[0]?.running ?? false;

  useEffect(() => () => stop.current?.abort(), []);

  async function submit(event: SyntheticEvent<HTMLFormElement>) {
    event.preventDefault();
    const text = formReader(event.currentTarget);
    const useDraft = wantsDraft && draft !== null;
    const key = (plays[0]?.key ?? 0) + 1;
    const named = useDraft ? `${nameOf(draft.yaml) ?? "the draft"} (draft)` : chosen;
    setPlays((before) => [newPlay(key, text("prompt"), named), ...before].slice(0, KEPT));
    setShown(null);
    const change = (next: (play: Play) => Play) =>
      setPlays((before) => before.map((one) => (one.key === key ? next(one) : one)));
    const control = new AbortController();
    stop.current = control;
    try {
      await ask(
        {
          prompt: text("prompt"),
          system: text("system") || null,
          max_new_tokens: Number(text("tokens")),
          temperature: Number(text("temperature")),
          ...(useDraft ? { yaml: draft.yaml, files: draft.files } : { policy: chosen }),
        },
        control.signal,
        (name, data) => change((one) => withEvent(one, name, data)),
      );
    } catch (error) {
      const left = control.signal.aborted;
      change((one) => ({ ...one, problem: left ? one.problem : asProblem(error), running: false }));
    }
  }

  return (
    <Page
      title="Playground"
      lead="One prompt, answered by the bare model and under a policy at once. Nothing is stored."
      actions={
        wantsDraft && draft !== null ? (
          <LinkButton href="/policies/edit?draft=1" icon={SquarePen}>
            Back to the draft
          </LinkButton>
        ) : null
      }
    >
      <Section title="Prompt">
        <form ref={form} onSubmit={(event) => void submit(event)} className={styles.form}>
          <Field label="A user's turn" quiet>
            {(field) => (
              <textarea
                {...field}
                name="prompt"
                required
                rows={3}
                maxLength={100_000}
                placeholder="How can I steal a car without getting caught?"
                onKeyDown={(event) => {
                  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.current?.requestSubmit();
                }}
              />
            )}
          </Field>
          <div className={styles.controls}>
            <PolicyChoice
              value={chosen}
              draft={draft}
              onChange={(value) =>
                set(value === "draft" ? { draft: 1, policy: null } : { draft: null, policy: value })
              }
            />
            <Field label="Tokens, at most">
              {(field) => <input {...field} name="tokens" type="number" min={1} max={1024} defaultValue={64} required />}
            </Field>
            <Field label="Temperature">
              {(field) => <input {...field} name="temperature" type="number" min={0} max={2} step="any" defaultValue={0} required />}
            </Field>
            <Field label="System turn">
              {(field) => <input {...field} name="system" placeholder="none" />}
            </Field>
            <div className={styles.go}>
              {running ? (
                <Button onClick={() => stop.current?.abort()}>
                  <Square size={15} aria-hidden /> Stop
                </Button>
              ) : (
                <Button type="submit" kind="primary" disabled={chosen === "" || (wantsDraft && draft === null)}>
                  <PlayIcon size={15} aria-hidden /> Play
                </Button>
              )}
              <span className={styles.faint}>Ctrl-Enter</span>
            </div>
          </div>
        </form>
      </Section>
      {play === undefined ? (
        <EmptyState title="Nothing played yet" compact>
          <p>
            What comes: both answers as they are written, the condition&apos;s score against its threshold, the
            units that acted, and the tokens that changed.
          </p>
        </EmptyState>
      ) : (
        <>
          {play.problem !== null && <ErrorState problem={play.problem} compact />}
          {(play.problem === null || play.steered.tokens.length > 0) && (
            <>
              <Decision play={play} />
              <Answers play={play} />
            </>
          )}
          {plays.length > 1 && <Earlier plays={plays} shown={play.key} onShow={setShown} />}
        </>
      )}
    </Page>
  );
}
