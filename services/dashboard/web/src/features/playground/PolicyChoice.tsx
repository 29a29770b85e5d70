"use client";

import { useQueries } from "@tanstack/react-query";

import { api, edge, must } from "@/api/client";
import { nameOf, type Draft } from "@/features/policies/draft";
import { Field } from "@/ui/Field";

interface PolicyChoiceProps {
  /** A policy's name, `name@version`, `draft`, or nothing yet. */
  value: string;
  draft: Draft | null;
  onChange: (value: string) => void;
}

/** Which policy to try: the one in production, any version, or the draft in the editor. */
export function PolicyChoice({ value, draft, onChange }: PolicyChoiceProps) {
  const policies = api.useQuery("get", "/policies", { params: { query: { limit: 100 } } });
  const listed = policies.data?.items ?? [];
  const versions = useQueries({
    queries: listed.map(({ name }) => ({
      queryKey: ["get", "/policies/{name}", { params: { path: { name }, query: { limit: 20 } } }],
      queryFn: async () =>
        must(await edge.GET("/policies/{name}", { params: { path: { name }, query: { limit: 20 } } })),
    })),
  });
  const known =
    value === "" ||
    value === "draft" ||
    listed.some(({ name }) => value === name || value.startsWith(`${name}@`));
  return (
    <Field label="Policy">
      {(field) => (
        <select {...field} value={value} onChange={({ target }) => onChange(target.value)} required>
          <option value="" disabled>
            choose one
          </option>
          {draft !== null && (
            <option value="draft">draft in the editor: {nameOf(draft.yaml) ?? "unnamed"}</option>
          )}
          {!known && <option value={value}>{value}</option>}
          {listed.map(({ name, active_version: active }, at) => (
            <optgroup key={name} label={name}>
              {active !== null && <option value={name}>{name}, in production (version {active})</option>}
              {versions[at]?.data?.items
                .filter(({ artifact_id: artifact }) => artifact !== null)
                .map(({ version, state }) => (
                  <option key={version} value={`${name}@${version}`}>
                    {name}, version {version} ({state})
                  </option>
                ))}
            </optgroup>
          ))}
        </select>
      )}
    </Field>
  );
}
