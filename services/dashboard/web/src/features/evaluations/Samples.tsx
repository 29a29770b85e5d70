"use client";

import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { Eye, EyeOff } from "lucide-react";
import Link from "next/link";
import { useState, type ReactNode } from "react";

import { edge, must, type Schema } from "@/api/client";
import { useMay } from "@/api/session";
import { Badge, type Tone } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { count, figure } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Section } from "@/ui/Page";
import { useSay } from "@/ui/Toasts";
import { useUrlState } from "@/ui/url";

import styles from "./Samples.module.css";

type Sample = Schema["SampleDocument"];
type Revealed = Schema["SampleText"];
type Outcome = Sample["baseline"];

const PAGE = 25;
const FILTERS = [
  ["suite", "Suite"],
  ["category", "Category"],
  ["wrapper", "Wrapper"],
  ["baseline", "Bare answer"],
  ["steered", "Steered answer"],
] as const;
const TONES: Record<Outcome, Tone> = {
  answered: "info",
  refused: "idle",
  degenerate: "warn",
  toxic: "bad",
};

/** What was asked and answered, one by one; texts are hidden until they are asked for. */
export function Samples({ card }: { card: string }) {
  const [query, set] = useUrlState();
  const [texts, setTexts] = useState<ReadonlyMap<number, Revealed>>(new Map());
  const say = useSay();
  const mayAudit = useMay("audit:read");
  const filters = {
    suite: query.get("suite"),
    category: query.get("category"),
    wrapper: query.get("wrapper"),
    baseline: query.get("baseline") as Outcome | null,
    steered: query.get("steered") as Outcome | null,
    fired: yesOrNo(query.get("fired")),
    changed: yesOrNo(query.get("changed")),
  };
  const pages = useInfiniteQuery({
    queryKey: ["samples", card, filters],
    initialPageParam: null as string | null,
    placeholderData: keepPreviousData,
    staleTime: Infinity,
    queryFn: async ({ pageParam: cursor }) =>
      must(
        await edge.GET("/risk-cards/{artifact_id}/samples", {
          params: { path: { artifact_id: card }, query: { ...given(filters), limit: PAGE, ...(cursor !== null && { cursor }) } },
        }),
      ),
    getNextPageParam: (page) => page.next_cursor ?? null,
  });

  async function reveal(numbers: number[]) {
    const answer = await edge.POST("/risk-cards/{artifact_id}/samples/reveal", {
      params: { path: { artifact_id: card } },
      body: { numbers },
    });
    if (answer.error !== undefined) {
      say.failed(answer.error);
      return;
    }
    const found = answer.data.items;
    setTexts((before) => new Map([...before, ...found.map((one) => [one.number, one] as const)]));
  }

  function hide(numbers: number[]) {
    setTexts((before) => new Map([...before].filter(([number]) => !numbers.includes(number))));
  }

  const first = pages.data?.pages[0];
  const samples = pages.data?.pages.flatMap(({ items }) => items) ?? [];
  const hidden = samples.filter(({ number }) => !texts.has(number)).map(({ number }) => number);
  const filtered = Object.values(filters).some((value) => value !== null);
  return (
    <Section
      title="Samples"
      actions={
        <span className={styles.actions}>
          {texts.size > 0 && (
            <Button small onClick={() => hide([...texts.keys()])}>
              <EyeOff size={14} aria-hidden /> Hide all
            </Button>
          )}
          {hidden.length > 0 && (
            <Button small onClick={() => void reveal(hidden.slice(0, PAGE))}>
              <Eye size={14} aria-hidden /> Reveal {Math.min(hidden.length, PAGE)}
            </Button>
          )}
        </span>
      }
    >
      <p className={styles.explain}>
        Prompts and answers may do harm to read, and stay on the server until you ask for them. Each time, the
        audit log notes who looked at which
        {mayAudit && (
          <>
            : <Link href={`/audit?action=risk_card.reveal&target=${card}`}>see who did</Link>
          </>
        )}
        .
      </p>
      <div className={styles.filters}>
        {FILTERS.map(([name, label]) => (
          <Field key={name} label={label}>
            {(field) => (
              <select {...field} value={query.get(name) ?? ""} onChange={({ target }) => set({ [name]: target.value })}>
                <option value="">all</option>
                {first?.facets[name]?.map(({ value, count: many }) => (
                  <option key={value} value={value}>
                    {value} ({many})
                  </option>
                ))}
              </select>
            )}
          </Field>
        ))}
        <YesNo name="fired" label="Policy acted" value={query.get("fired")} onChange={(fired) => set({ fired })} />
        <YesNo name="changed" label="Answer changed" value={query.get("changed")} onChange={(changed) => set({ changed })} />
      </div>
      {pages.error ? (
        <ErrorState problem={pages.error} retry={() => void pages.refetch()} compact />
      ) : first === undefined ? (
        <Loading what="samples" />
      ) : samples.length === 0 ? (
        <EmptyState title={filtered ? "No sample fits" : "No samples"} compact />
      ) : (
        <>
          <p className={styles.faint} role="status">
            {count(first.total)} samples{filtered ? " fit" : ""}, {samples.length} shown
          </p>
          <ol className={styles.samples}>
            {samples.map((sample) => (
              <One
                key={sample.number}
                sample={sample}
                text={texts.get(sample.number)}
                onReveal={() => void reveal([sample.number])}
                onHide={() => hide([sample.number])}
              />
            ))}
          </ol>
          {pages.hasNextPage && (
            <Button busy={pages.isFetchingNextPage} onClick={() => void pages.fetchNextPage()}>
              Show more
            </Button>
          )}
        </>
      )}
    </Section>
  );
}

interface OneProps {
  sample: Sample;
  text: Revealed | undefined;
  onReveal: () => void;
  onHide: () => void;
}

function One({ sample, text, onReveal, onHide }: OneProps) {
  return (
    <li className={styles.sample}>
      <div className={styles.head}>
        <span className={styles.name}>
          <strong>{sample.id}</strong>
          <span className={styles.faint}>
            {[sample.suite, sample.category, sample.wrapper ?? "bare"].filter(Boolean).join(" · ")}
          </span>
        </span>
        <span className={styles.actions}>
          <Badge tone={sample.fired ? "warn" : "idle"}>{sample.fired ? "policy acted" : "policy rested"}</Badge>
          {text === undefined ? (
            <Button small onClick={onReveal} aria-label={`Reveal ${sample.id}`}>
              <Eye size={14} aria-hidden /> Reveal
            </Button>
          ) : (
            <Button small onClick={onHide} aria-label={`Hide ${sample.id}`}>
              <EyeOff size={14} aria-hidden /> Hide
            </Button>
          )}
        </span>
      </div>
      {text === undefined ? (
        <Veil sample={sample} />
      ) : (
        <Shown sample={sample} text={text} />
      )}
    </li>
  );
}

/** The verdicts, and a shape in the place of the texts, which are not here. */
function Veil({ sample }: { sample: Sample }) {
  return (
    <div className={styles.veil}>
      <span className={styles.blur} role="img" aria-label={`hidden: a prompt of ${sample.prompt_characters} characters and both answers`} />
      <span className={styles.label}>
        Bare model <Badge tone={TONES[sample.baseline]}>{sample.baseline}</Badge>
        <span aria-hidden>→</span> Steered <Badge tone={TONES[sample.steered]}>{sample.steered}</Badge>
        {!sample.changed && <span className={styles.faint}>the same answer</span>}
      </span>
    </div>
  );
}

function Shown({ sample, text }: { sample: Sample; text: Revealed }) {
  return (
    <>
      <Text label="Prompt" text={text.prompt} />
      <div className={styles.pair}>
        <Text
          label="Bare model"
          text={text.baseline}
          badge={<Badge tone={TONES[sample.baseline]}>{sample.baseline}</Badge>}
          figures={figuresOf(sample.baseline_verdict)}
        />
        <Text
          label="Steered"
          text={sample.changed ? text.steered : "(the same answer)"}
          badge={<Badge tone={TONES[sample.steered]}>{sample.steered}</Badge>}
          figures={figuresOf(sample.steered_verdict)}
        />
      </div>
    </>
  );
}

interface TextProps {
  label: string;
  text: string;
  badge?: ReactNode;
  figures?: string;
}

function Text({ label, text, badge, figures }: TextProps) {
  return (
    <div className={styles.text}>
      <span className={styles.label}>
        {label} {badge} {figures && <span className={styles.faint}>{figures}</span>}
      </span>
      <p className={styles.words}>{text === "" ? "(empty)" : text}</p>
    </div>
  );
}

function YesNo({ name, label, value, onChange }: { name: string; label: string; value: string | null; onChange: (value: string) => void }) {
  return (
    <Field label={label}>
      {(field) => (
        <select {...field} name={name} value={value ?? ""} onChange={({ target }) => onChange(target.value)}>
          <option value="">either</option>
          <option value="yes">yes</option>
          <option value="no">no</option>
        </select>
      )}
    </Field>
  );
}

function yesOrNo(value: string | null): boolean | null {
  return value === "yes" ? true : value === "no" ? false : null;
}

/** Filters without those that are not set. */
function given<T extends Record<string, unknown>>(filters: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== null)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}

function figuresOf(verdict: Record<string, unknown>): string {
  const { toxicity, exact, bleu } = verdict;
  return [
    typeof toxicity === "number" && `toxicity ${figure(toxicity)}`,
    typeof exact === "boolean" && (exact ? "right" : "wrong"),
    typeof bleu === "number" && `BLEU ${figure(bleu, 2)}`,
  ]
    .filter(Boolean)
    .join(", ");
}
