"use client";

import { api, type Schema } from "@/api/client";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { Loading } from "@/ui/Loading";
import { useUrlState } from "@/ui/url";

import { diffLines, type DiffLine } from "./diff";
import styles from "./Policies.module.css";

interface ChangesProps {
  version: Schema["PolicyDetails"];
  all: readonly Schema["PolicyDocument"][];
}

/** What changed in the text from another version to this one. */
export function Changes({ version, all }: ChangesProps) {
  const [query, set] = useUrlState();
  const others = all.filter((one) => one.version !== version.version);
  const before = others.find((one) => one.version < version.version) ?? others[0];
  const wanted = Number(query.get("against"));
  const against = others.find((one) => one.version === wanted) ?? before;
  if (against === undefined) {
    return <EmptyState title="This is the only version" compact />;
  }
  return (
    <div className={styles.stack}>
      <div className={styles.narrow}>
        <Field label="Compared with">
          {(field) => (
            <select
              {...field}
              value={against.version}
              onChange={({ target }) => set({ against: target.value })}
            >
              {others.map((one) => (
                <option key={one.version} value={one.version}>
                  version {one.version} ({one.state})
                </option>
              ))}
            </select>
          )}
        </Field>
      </div>
      <DiffOf name={version.name} from={against.version} to={version.version} />
    </div>
  );
}

function DiffOf({ name, from, to }: { name: string; from: number; to: number }) {
  const found = api.useQuery("get", "/policies/{name}/diff", {
    params: { path: { name }, query: { from, to } },
  });
  if (found.error) return <ErrorState problem={found.error} compact />;
  if (found.data === undefined) return <Loading what="the changes" />;
  const lines = diffLines(found.data.diff);
  if (lines.length === 0) return <EmptyState title="The texts are the same" compact />;
  return <DiffTable lines={lines} from={from} to={to} />;
}

const SIGN: Record<DiffLine["kind"], string> = { same: "", gone: "−", new: "+", gap: "" };

/** Lines with a sign before what went and what came: colour alone says nothing. */
export function DiffTable({ lines, from, to }: { lines: readonly DiffLine[]; from: number; to: number }) {
  return (
    // A wide text scrolls by itself, which a keyboard must be able to do as well.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className={styles.diff} role="region" aria-label={`Changes from ${from} to ${to}`} tabIndex={0}>
      <table>
        <caption className="visually-hidden">
          Lines that went from version {from} and came in version {to}
        </caption>
        <thead className="visually-hidden">
          <tr>
            <th scope="col">Line in {from}</th>
            <th scope="col">Line in {to}</th>
            <th scope="col">Change</th>
            <th scope="col">Text</th>
          </tr>
        </thead>
        <tbody>
          {lines.map((line, at) =>
            line.kind === "gap" ? (
              <tr key={at} className={styles.gap}>
                <td colSpan={4}>⋯</td>
              </tr>
            ) : (
              <tr key={at} className={styles[line.kind]}>
                <td className={styles.lineNumber}>{line.older}</td>
                <td className={styles.lineNumber}>{line.newer}</td>
                <td className={styles.sign}>{SIGN[line.kind]}</td>
                <td>
                  <code>{line.text === "" ? " " : line.text}</code>
                </td>
              </tr>
            ),
          )}
        </tbody>
      </table>
    </div>
  );
}
