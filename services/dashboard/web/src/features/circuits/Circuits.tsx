"use client";

import { useInfiniteQuery } from "@tanstack/react-query";
import { GitCompareArrows, Import } from "lucide-react";
import Link from "next/link";
import { useState } from "react";

import { edge, must } from "@/api/client";
import { useMay } from "@/api/session";
import { Badge } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { count, figure, percent, shortId } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";
import { useUrlState } from "@/ui/url";

import styles from "./Circuits.module.css";
import { ImportDialog } from "./ImportDialog";
import type { Artifact } from "./useCircuit";

/** All circuits: what was found here, and what was imported. */
export function Circuits() {
  const [query, set] = useUrlState();
  const may = useMay("artifacts:write");
  const [importing, setImporting] = useState(false);
  const filters = {
    form: query.get("form") ?? "",
    risk_class: query.get("class") ?? "",
    model: query.get("model") ?? "",
  };
  const list = useCircuits(filters);
  const rows = list.data?.pages.flatMap(({ items }) => items) ?? [];
  const chosen = query.getAll("pick");
  const filtered = Object.values(filters).some((value) => value !== "");
  const columns: Column<Artifact>[] = [
    {
      head: "Circuit",
      cell: (row) => (
        <Link href={`/circuits/view?id=${row.id}`}>
          {nameOf(row)} <span className={styles.id}>{shortId(row.id)}</span>
        </Link>
      ),
      wide: true,
    },
    {
      head: "Kind",
      cell: (row) =>
        isImported(row) ? <Badge icon={Import}>imported</Badge> : <Badge tone="good">measured here</Badge>,
    },
    { head: "Model", cell: (row) => row.model ?? text(row.summary.scan), minor: true },
    {
      head: "Nodes",
      cell: (row) => count(number(row.summary.units) ?? number(row.summary.nodes) ?? 0),
      number: true,
    },
    {
      head: "Faithfulness",
      cell: (row) => {
        const value = number(row.summary.faithfulness);
        return value === null ? <span title="Nothing was measured here">–</span> : percent(value);
      },
      number: true,
    },
    {
      head: "Stability",
      cell: (row) => {
        const value = number(row.summary.stability);
        return value === null ? "–" : figure(value, 2);
      },
      number: true,
    },
    { head: "Made", cell: (row) => <Ago at={row.created_at} />, minor: true },
    {
      head: "Compare",
      cell: (row) =>
        isImported(row) ? null : (
          <input
            type="checkbox"
            aria-label={`Compare ${nameOf(row)} ${shortId(row.id)}`}
            checked={chosen.includes(row.id)}
            disabled={!chosen.includes(row.id) && chosen.length === 2}
            onChange={(event) =>
              set({
                pick: event.target.checked
                  ? [...chosen, row.id]
                  : chosen.filter((one) => one !== row.id),
              })
            }
          />
        ),
    },
  ];
  return (
    <Page
      title="Circuits"
      lead="Which heads, MLPs and features make a model behave as it does, measured; and graphs from elsewhere."
      actions={
        <>
          {chosen.length === 2 ? (
            <Link
              className={styles.compare}
              href={`/circuits/compare?base=${chosen[1] ?? ""}&other=${chosen[0] ?? ""}`}
            >
              <GitCompareArrows size={15} aria-hidden /> Compare the two
            </Link>
          ) : (
            <span className={styles.hint}>Tick two circuits to compare them</span>
          )}
          {may && (
            <Button onClick={() => setImporting(true)}>
              <Import size={15} aria-hidden /> Import a graph
            </Button>
          )}
        </>
      }
    >
      <div className={styles.filters}>
        <Field label="Kind">
          {(field) => (
            <select {...field} value={filters.form} onChange={(event) => set({ form: event.target.value })}>
              <option value="">All</option>
              <option value="contrast">Measured here</option>
              <option value="attribution_graph">Imported</option>
            </select>
          )}
        </Field>
        <Filter label="Behaviour" name="class" value={filters.risk_class} placeholder="jailbreak" set={set} />
        <Filter
          label="Model"
          name="model"
          value={filters.model}
          placeholder="builtin:smollm2-135m-instruct"
          set={set}
        />
        {filtered && (
          <Button kind="quiet" onClick={() => set({ form: null, class: null, model: null })}>
            Clear
          </Button>
        )}
      </div>
      <Section title="Newest first">
        {list.error ? (
          <ErrorState problem={list.error} retry={() => void list.refetch()} compact />
        ) : list.data === undefined ? (
          <Loading what="circuits" />
        ) : rows.length === 0 ? (
          <EmptyState title={filtered ? "No circuit fits these filters" : "No circuits yet"} compact>
            <p>
              {filtered ? (
                "Behaviours and models are matched whole."
              ) : (
                <>
                  A search makes them: <code>mechctl search --class jailbreak --prompts package:jailbreak</code>
                </>
              )}
            </p>
          </EmptyState>
        ) : (
          <>
            <Table
              caption="Circuits"
              columns={columns}
              rows={rows}
              id={(row) => row.id}
              selected={(row) => chosen.includes(row.id)}
            />
            {list.hasNextPage && (
              <p className={styles.more}>
                <Button busy={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
                  Show more
                </Button>
              </p>
            )}
          </>
        )}
      </Section>
      <ImportDialog open={importing} onClose={() => setImporting(false)} />
    </Page>
  );
}

interface Filters {
  form: string;
  risk_class: string;
  model: string;
}

/** Pages of circuits, newest first. */
export function useCircuits(filters: Filters) {
  return useInfiniteQuery({
    queryKey: ["circuits", filters],
    initialPageParam: "",
    queryFn: async ({ pageParam }) => {
      const given = Object.fromEntries(
        Object.entries({ ...filters, cursor: pageParam }).filter(([, value]) => value !== ""),
      );
      return must(await edge.GET("/circuits", { params: { query: { limit: 50, ...given } } }));
    },
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });
}

interface FilterProps {
  label: string;
  name: string;
  value: string;
  placeholder: string;
  set: (changes: Record<string, string>) => void;
}

function Filter({ label, name, value, placeholder, set }: FilterProps) {
  const [draft, setDraft] = useState(value);
  const [before, setBefore] = useState(value);
  if (before !== value) {
    setBefore(value);
    setDraft(value);
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        set({ [name]: draft.trim() });
      }}
    >
      <Field label={label}>
        {(field) => (
          <input
            {...field}
            type="search"
            value={draft}
            placeholder={placeholder}
            onChange={(event) => setDraft(event.target.value)}
            onBlur={() => set({ [name]: draft.trim() })}
          />
        )}
      </Field>
    </form>
  );
}

export function isImported({ summary }: Artifact): boolean {
  return summary.form === "attribution_graph";
}

export function nameOf({ summary, id }: Artifact): string {
  return text(summary.risk_class) || text(summary.title) || text(summary.prompt).slice(0, 60) || id;
}

function number(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
