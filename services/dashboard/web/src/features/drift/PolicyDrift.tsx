"use client";

import { api, type Schema } from "@/api/client";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import filters from "@/ui/Filters.module.css";
import { count, figure, moment, percent } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { useUrlState } from "@/ui/url";

import { Circuits } from "./Circuits";
import styles from "./Drift.module.css";
import { OverTime } from "./OverTime";
import { Scores } from "./Scores";
import { Verdict } from "./Verdict";

type Rate = Schema["RateShift"];
type Part = Schema["TrafficPart"];

const WINDOWS = [
  ["24", "the last day"],
  ["168", "the last week"],
  ["720", "the last 30 days"],
] as const;
const REFERENCES = [
  ["", "as configured"],
  ["fit", "what it was fitted on"],
  ["traffic", "its first requests"],
] as const;
const PARTS = 12;

/** One policy's traffic against its reference: verdict, reasons, what to do, and the figures. */
export function PolicyDrift({ name }: { name: string }) {
  const [query, set] = useUrlState();
  const hours = WINDOWS.find(([value]) => value === query.get("hours"))?.[0] ?? "24";
  const reference = REFERENCES.find(([value]) => value === query.get("reference"))?.[0] ?? "";
  const before = Number(query.get("before")) || null;
  const versions = api.useQuery("get", "/policies/{name}", { params: { path: { name } } });
  const drift = api.useQuery("get", "/drift/{name}", {
    params: {
      path: { name },
      query: {
        hours: Number(hours),
        parts: PARTS,
        ...(reference !== "" && { reference }),
        ...(before !== null && { reference_version: before }),
      },
    },
  });
  const found = drift.data;
  return (
    <Section
      title={`${name}, in detail`}
      actions={
        <div className={filters.filters}>
          <Field label="Window" quiet>
            {(field) => (
              <select {...field} value={hours} onChange={(event) => set({ hours: event.target.value })}>
                {WINDOWS.map(([value, label]) => (
                  <option key={value} value={value}>
                    {label}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field label="Compared with" quiet>
            {(field) => (
              <select
                {...field}
                value={reference}
                onChange={(event) => set({ reference: event.target.value })}
              >
                {REFERENCES.map(([value, label]) => (
                  <option key={value} value={value}>
                    against {label}
                  </option>
                ))}
              </select>
            )}
          </Field>
          {(versions.data?.items.length ?? 0) > 1 && (
            <Field label="Of version" quiet>
              {(field) => (
                <select
                  {...field}
                  value={before ?? ""}
                  onChange={(event) => set({ before: event.target.value })}
                >
                  <option value="">of the same version</option>
                  {versions.data?.items.map(({ version, model }) => (
                    <option key={version} value={version}>
                      of version {version} ({model})
                    </option>
                  ))}
                </select>
              )}
            </Field>
          )}
        </div>
      }
    >
      {drift.error ? (
        <ErrorState problem={drift.error} retry={() => void drift.refetch()} compact />
      ) : !found ? (
        <Loading what="the comparison" />
      ) : (
        <div className={styles.parts}>
          <Summary of={found} />
          {found.report.score && <Scores score={found.report.score} />}
          {found.reference_version !== found.version && (
            <div>
              <h3>
                Circuits of versions {found.reference_version} and {found.version}
              </h3>
              <Circuits name={name} version={found.version} before={found.reference_version} />
            </div>
          )}
          {found.report.features && found.report.features.length > 0 && (
            <div>
              <h3>Features, those that changed most first</h3>
              <Table
                caption="How often features fire"
                columns={RATES}
                rows={found.report.features.slice(0, 20)}
                id={({ unit }) => unit}
              />
            </div>
          )}
          {found.parts.length > 0 && (
            <div>
              <h3>Scores over time: population stability index</h3>
              <OverTime parts={found.parts} limits={found.report.limits} />
              <details>
                <summary>As a table</summary>
                <Table
                  caption="Parts of the window"
                  columns={PART_COLUMNS}
                  rows={found.parts}
                  id={({ since }) => since}
                />
              </details>
            </div>
          )}
        </div>
      )}
    </Section>
  );
}

function Summary({ of: { report, since, until, reference, reference_version: version } }: { of: Schema["DriftDocument"] }) {
  return (
    <div className={styles.summary}>
      <p>
        <Verdict of={report.verdict} /> {count(report.requests)} requests from {moment(since)} to{" "}
        {moment(until)}, against {count(report.reference_requests)} of{" "}
        {reference === "fit" ? `the harmless prompts that version ${version} was fitted on` : `the traffic of version ${version}`}.
      </p>
      {report.reasons.length > 0 && (
        <ul className={styles.list} aria-label="Reasons">
          {report.reasons.map((reason) => (
            <li key={reason}>{reason}</li>
          ))}
        </ul>
      )}
      {report.advice.length > 0 && (
        <>
          <h3>What to do</h3>
          <ul className={styles.list}>
            {report.advice.map((advice) => (
              <li key={advice}>{advice}</li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

const RATES: readonly Column<Rate>[] = [
  { head: "Unit", cell: ({ unit }) => <code>{unit}</code>, wide: true },
  { head: "Before", cell: ({ reference }) => percent(reference, 1), number: true },
  { head: "Now", cell: ({ window }) => percent(window, 1), number: true },
  {
    head: "Difference",
    cell: ({ difference, low, high }) =>
      `${percent(difference, 1)} [${percent(low, 1)}, ${percent(high, 1)}]`,
    number: true,
  },
  { head: "PSI", cell: ({ psi }) => (psi == null ? "–" : figure(psi, 2)), number: true, minor: true },
  { head: "p, adjusted", cell: ({ p }) => figure(p, 2), number: true },
];

const PART_COLUMNS: readonly Column<Part>[] = [
  { head: "From", cell: ({ since }) => moment(since) },
  { head: "Verdict", cell: ({ verdict }) => <Verdict of={verdict} />, wide: true },
  { head: "Requests", cell: ({ requests }) => count(requests), number: true },
  { head: "PSI", cell: ({ psi }) => (psi == null ? "–" : figure(psi, 2)), number: true },
  { head: "Acts on", cell: ({ firing }) => (firing == null ? "–" : percent(firing, 1)), number: true },
];
