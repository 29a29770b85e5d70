"use client";

import { ArrowLeftRight } from "lucide-react";
import Link from "next/link";

import { api } from "@/api/client";
import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { moment, shortId } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Table } from "@/ui/Table";
import { useUrlState } from "@/ui/url";

import { title, type Criterion, type RiskCard } from "./card";
import { compareCriteria, comparable, compareSuites } from "./comparing";
import styles from "./Evaluations.module.css";
import { PairChart, Written } from "./PairChart";

/** Two Risk Cards, figure by figure. */
export function ComparePage() {
  const [query, set] = useUrlState();
  const a = query.get("a") ?? "";
  const b = query.get("b") ?? "";
  const cards = api.useQuery("get", "/risk-cards", { params: { query: { limit: 100 } } });
  const choose = (name: "a" | "b", label: string, value: string) => (
    <Field label={label}>
      {(field) => (
        <select {...field} value={value} onChange={({ target }) => set({ [name]: target.value })}>
          <option value="" disabled>
            choose one
          </option>
          {cards.data?.items.map(({ id, created_at: at }) => (
            <option key={id} value={id}>
              {shortId(id)}, {moment(at)}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
  return (
    <Page
      title="Compare two Risk Cards"
      lead="Steered figures of both, beside one another. Intervals that overlap much do not tell the cards apart."
      actions={
        <Button onClick={() => set({ a: b, b: a })}>
          <ArrowLeftRight size={15} aria-hidden /> Swap
        </Button>
      }
    >
      <div className={styles.two}>
        {choose("a", "One card", a)}
        {choose("b", "The other", b)}
      </div>
      {a !== "" && b !== "" ? <Both a={a} b={b} /> : <EmptyState title="Choose two cards" compact />}
    </Page>
  );
}

function useCard(id: string) {
  return api.useQuery(
    "get",
    "/risk-cards/{artifact_id}",
    { params: { path: { artifact_id: id } } },
    { staleTime: Infinity },
  );
}

function Both({ a, b }: { a: string; b: string }) {
  const [one, other] = [useCard(a), useCard(b)];
  const error = one.error ?? other.error;
  if (error) return <ErrorState problem={error} compact />;
  if (one.data === undefined || other.data === undefined) return <Loading what="both cards" />;
  const left = one.data.card as unknown as RiskCard;
  const right = other.data.card as unknown as RiskCard;
  const names = [shortId(a), shortId(b)] as const;
  const suites = compareSuites(left, right);
  const doubts = comparable(left, right);
  return (
    <>
      {doubts.length > 0 && (
        <ul className={styles.doubts}>
          {doubts.map((doubt) => (
            <li key={doubt}>{doubt}</li>
          ))}
        </ul>
      )}
      <Section title="Against the limits">
        <Table
          caption="Criteria of both cards"
          rows={compareCriteria(left, right)}
          id={({ name }) => name}
          columns={[
            { head: "Criterion", cell: ({ name }) => title(name) },
            { head: <Link href={`/evaluations/view?id=${a}`}>{names[0]}</Link>, cell: ({ name, one: c }) => <Side name={name} criterion={c} /> },
            { head: <Link href={`/evaluations/view?id=${b}`}>{names[1]}</Link>, cell: ({ name, other: c }) => <Side name={name} criterion={c} /> },
          ]}
        />
      </Section>
      {suites.map(({ name, rows }) => (
        <Section key={name} title={`${name}, steered`}>
          <PairChart caption={`${name} on both cards`} rows={rows} names={names} />
        </Section>
      ))}
    </>
  );
}

function Side({ name, criterion }: { name: string; criterion: Criterion | undefined }) {
  if (criterion === undefined) return <span className={styles.faint}>not on this card</span>;
  return (
    <>
      <Written name={name} figure={criterion.value} /> {criterion.passed ? "✓ met" : "✗ missed"}
    </>
  );
}
