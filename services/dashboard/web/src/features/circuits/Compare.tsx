"use client";

import { Equal, Minus, Plus, TriangleAlert, type LucideIcon } from "lucide-react";
import Link from "next/link";
import { useMemo, useState } from "react";

import { api, type Schema } from "@/api/client";
import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { Figure } from "@/ui/Figure";
import { figure, moment, percent, shortId } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { useUrlState } from "@/ui/url";

import { nameOf, useCircuits } from "./Circuits";
import { parseUnit } from "./circuit";
import styles from "./Compare.module.css";
import { Shape } from "./Controls";
import { DifferenceGrid } from "./DifferenceGrid";
import { RankPlot } from "./RankPlot";

export type Comparison = Schema["CircuitComparison"];
export type ComparedUnit = Schema["ComparedUnit"];
type Measurement = Schema["Measurement"];

const FIRST = 30;

export const STATUS: Record<ComparedUnit["status"], { word: string; icon: LucideIcon }> = {
  shared: { word: "shared", icon: Equal },
  gained: { word: "gained", icon: Plus },
  lost: { word: "lost", icon: Minus },
};

/** Two circuits of one behaviour: `/circuits/compare?base=cx_…&other=cx_…`. */
export function Compare() {
  const [query, set] = useUrlState();
  const base = query.get("base") ?? "";
  const other = query.get("other") ?? "";
  const ready = base !== "" && other !== "";
  const comparison = api.useQuery(
    "get",
    "/circuits/compare",
    { params: { query: { base, other } } },
    { enabled: ready, staleTime: Infinity, retry: false },
  );
  return (
    <Page
      title="Compare circuits"
      lead="Two circuits of one behaviour, from versions of a model, seeds, or sets of prompts: which units both have, and whether they matter as much."
    >
      <div className={styles.pickers}>
        <Picker label="Base" value={base} onChange={(id) => set({ base: id })} />
        <Picker label="Compared with it" value={other} onChange={(id) => set({ other: id })} />
      </div>
      {ready && (
        <p className={styles.faint}>
          Open <Link href={`/circuits/view?id=${base}`}>the base</Link> or{" "}
          <Link href={`/circuits/view?id=${other}`}>the other</Link> by itself.
        </p>
      )}
      {!ready ? (
        <EmptyState title="Choose two circuits" />
      ) : comparison.error ? (
        <ErrorState problem={comparison.error} retry={() => void comparison.refetch()} compact />
      ) : comparison.data === undefined ? (
        <Loading what="the comparison" />
      ) : (
        <Result comparison={comparison.data} show={query.get("show") ?? ""} set={set} />
      )}
    </Page>
  );
}

interface PickerProps {
  label: string;
  value: string;
  onChange: (id: string) => void;
}

function Picker({ label, value, onChange }: PickerProps) {
  const list = useCircuits({ form: "contrast", risk_class: "", model: "" });
  const rows = list.data?.pages.flatMap(({ items }) => items) ?? [];
  return (
    <Field label={label}>
      {(field) => (
        <select {...field} value={value} onChange={(event) => onChange(event.target.value)}>
          <option value="">Choose a circuit</option>
          {value !== "" && !rows.some(({ id }) => id === value) && <option value={value}>{value}</option>}
          {rows.map((row) => (
            <option key={row.id} value={row.id}>
              {nameOf(row)} {shortId(row.id)} · {row.model ?? ""} · {moment(row.created_at)}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

interface ResultProps {
  comparison: Comparison;
  show: string;
  set: (changes: Record<string, string | null>) => void;
}

function Result({ comparison, show, set }: ResultProps) {
  const counts = useMemo(() => {
    const found = { shared: 0, gained: 0, lost: 0 };
    for (const { status } of comparison.units) found[status] += 1;
    return found;
  }, [comparison]);
  const [whole, setWhole] = useState(false);
  const rows = comparison.units
    .filter(({ status }) => show === "" || status === show)
    .sort((a, b) => largest(b) - largest(a));
  return (
    <>
      {comparison.notes.length > 0 && (
        <ul className={styles.notes}>
          {comparison.notes.map((note) => (
            <li key={note}>
              <TriangleAlert size={15} aria-hidden /> {note}.
            </li>
          ))}
        </ul>
      )}
      <Overlap comparison={comparison} counts={counts} />
      <div className={styles.plots}>
        <Section title="Where they differ">
          <DifferenceGrid units={comparison.units} />
        </Section>
        <Section title="Ranks of the CCS">
          <RankPlot comparison={comparison} />
        </Section>
      </div>
      <Section
        title="Units"
        actions={
          <div className={styles.filter} role="group" aria-label="Which units">
            {(["", "shared", "gained", "lost"] as const).map((status) => (
              <button
                key={status}
                type="button"
                aria-pressed={show === status}
                onClick={() => set({ show: status || null })}
              >
                {status === "" ? `all ${comparison.units.length}` : `${status} ${counts[status]}`}
              </button>
            ))}
          </div>
        }
      >
        <Table
          caption="Units of either circuit"
          columns={COLUMNS}
          rows={whole ? rows : rows.slice(0, FIRST)}
          id={({ unit }) => unit}
        />
        {!whole && rows.length > FIRST && (
          <p className={styles.more}>
            <Button small onClick={() => setWhole(true)}>
              Show all {rows.length}
            </Button>
          </p>
        )}
      </Section>
    </>
  );
}

const COLUMNS: readonly Column<ComparedUnit>[] = [
  {
    head: "Unit",
    cell: ({ unit }) => (
      <span className={styles.unit}>
        <Shape kind={parseUnit(unit)?.kind ?? "other"} size={13} /> {unit}
      </span>
    ),
    wide: true,
  },
  { head: "Change", cell: ({ status }) => <Status status={status} /> },
  { head: "CCS before", cell: ({ base }) => <Ccs placed={base} />, number: true },
  { head: "CCS after", cell: ({ other }) => <Ccs placed={other} />, number: true },
  {
    head: "Rank",
    cell: ({ base, other }) => `${base?.rank ?? "–"} → ${other?.rank ?? "–"}`,
    number: true,
  },
  {
    head: "Attribution",
    cell: ({ base, other }) =>
      `${base ? percent(base.attribution, 1) : "–"} → ${other ? percent(other.attribution, 1) : "–"}`,
    number: true,
    minor: true,
  },
];

export function Status({ status }: { status: ComparedUnit["status"] }) {
  const { word, icon: Icon } = STATUS[status];
  return (
    <span className={styles.status} data-status={status}>
      <Icon size={13} aria-hidden /> {word}
    </span>
  );
}

function Ccs({ placed }: { placed: ComparedUnit["base"] }) {
  if (!placed) return "–";
  if (!placed.ccs) return <span className={styles.faint}>not measured</span>;
  return (
    <span title={`${percent(placed.ccs.low, 1)} to ${percent(placed.ccs.high, 1)}, n ${placed.ccs.n}`}>
      {percent(placed.ccs.value, 1)}
    </span>
  );
}

function largest({ base, other }: ComparedUnit): number {
  return Math.max(Math.abs(base?.attribution ?? 0), Math.abs(other?.attribution ?? 0));
}

interface OverlapProps {
  comparison: Comparison;
  counts: Record<ComparedUnit["status"], number>;
}

/** How much both share, and how much of that chance would leave. */
function Overlap({ comparison, counts }: OverlapProps) {
  const { resampled, base_stability: first, other_stability: second } = comparison;
  const verdict = verdictOf(resampled, first, second);
  return (
    <div className={styles.overlap}>
      <dl className={styles.tiles}>
        <div>
          <dt>Units</dt>
          <dd>
            <Status status="shared" /> <b>{counts.shared}</b> <Status status="gained" /> <b>{counts.gained}</b>{" "}
            <Status status="lost" /> <b>{counts.lost}</b>
          </dd>
        </div>
        <div>
          <dt>Jaccard of heads and MLPs</dt>
          <dd className={styles.big}>{comparison.jaccard.toFixed(2)}</dd>
        </div>
        <div>
          <dt>Weighted by attribution</dt>
          <dd className={styles.big}>{comparison.weighted_jaccard.toFixed(2)}</dd>
        </div>
        <div>
          <dt>Rank correlation of CCS</dt>
          <dd>
            <Correlation of={comparison.ccs_spearman} />
          </dd>
        </div>
        <div>
          <dt>Rank correlation of attribution, between resamples</dt>
          <dd>
            <Correlation of={comparison.attribution_spearman} />
          </dd>
        </div>
      </dl>
      <figure className={styles.strips}>
        <figcaption>
          Overlap of circuits found on resamples of the pairs, with 95 % of the overlaps. {verdict}
        </figcaption>
        <Strip name="Between the two" of={resampled ?? null} strong />
        <Strip name="Within the base" of={first} />
        <Strip name="Within the other" of={second} />
        <div className={styles.scale} aria-hidden>
          <span>0</span>
          <span>0.5</span>
          <span>1</span>
        </div>
      </figure>
    </div>
  );
}

/** What the intervals allow one to say. */
export function verdictOf(
  between: Measurement | null | undefined,
  first: Measurement,
  second: Measurement,
): string {
  if (!between) return "A circuit keeps no attribution by pair, so chance cannot be told from change.";
  const within = Math.min(first.value, second.value);
  if (between.high < Math.min(first.low, second.low)) {
    return "They differ by more than resamples of either do: the circuit changed.";
  }
  return between.value >= within - 0.02
    ? "They overlap as much as resamples of one and the same do: no change is seen."
    : "They overlap less than resamples of one do, but within what chance allows.";
}

function Correlation({ of: measured }: { of: Measurement | null | undefined }) {
  if (!measured) return <span className={styles.faint}>too few units</span>;
  return (
    <Figure
      value={measured.value}
      interval={[measured.low, measured.high]}
      n={measured.n}
      format={(value) => figure(value, 2)}
    />
  );
}

interface StripProps {
  name: string;
  of: Measurement | null;
  strong?: boolean;
}

function Strip({ name, of: measured, strong = false }: StripProps) {
  return (
    <div className={styles.strip} data-strong={strong ? "" : undefined}>
      <span>{name}</span>
      {measured === null ? (
        <span className={styles.faint}>not measured</span>
      ) : (
        <>
          <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden>
            <rect className={styles.track} x="0" y="4.5" width="100" height="1" />
            <rect
              className={styles.range}
              x={measured.low * 100}
              y="2"
              width={Math.max(0.5, (measured.high - measured.low) * 100)}
              height="6"
            />
            <rect className={styles.mark} x={measured.value * 100 - 0.5} y="0" width="1" height="10" />
          </svg>
          <span className={styles.value}>
            {measured.value.toFixed(2)} [{measured.low.toFixed(2)}, {measured.high.toFixed(2)}] n {measured.n}
          </span>
        </>
      )}
    </div>
  );
}
