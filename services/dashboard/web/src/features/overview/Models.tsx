"use client";

import Link from "next/link";

import { api, type Schema } from "@/api/client";
import { useMay } from "@/api/session";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";
import { Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";

interface Row {
  model: string;
  /** As it is loaded, where one may know that. */
  loaded?: Schema["ModelDocument"] | undefined;
  policy?: Schema["ListedPolicy"];
}

const COLUMNS: readonly Column<Row>[] = [
  { head: "Model", cell: ({ model }) => model },
  {
    head: "Active policy",
    wide: true,
    cell: ({ policy }) =>
      policy ? (
        <Link href={`/policies/view?name=${policy.name}`}>
          {policy.name}@{policy.active_version}
        </Link>
      ) : (
        "none: it answers as it is"
      ),
  },
  {
    head: "Since",
    cell: ({ policy }) => (policy?.activated_at ? <Ago at={policy.activated_at} /> : "–"),
  },
  {
    head: "Device",
    cell: ({ loaded }) => (loaded ? `${loaded.device}, ${loaded.dtype}` : "–"),
    minor: true,
  },
  {
    head: "Busy",
    cell: ({ loaded }) => (loaded ? `${loaded.running} running, ${loaded.waiting} waiting` : "–"),
    minor: true,
  },
];

/** The models that answer, and the policies that steer them. */
export function Models() {
  const may = useMay("generate");
  const models = api.useQuery("get", "/models", {}, { enabled: may });
  const policies = api.useQuery("get", "/policies", { params: { query: { limit: 200 } } });
  const problem = models.error ?? policies.error;
  const active = (policies.data?.items ?? []).filter(({ active_version: version }) => version !== null);
  const names = [
    ...new Set([...(models.data?.items ?? []).map(({ name }) => name), ...active.map(({ model }) => model)]),
  ];
  const rows: Row[] = names.flatMap((model): Row[] => {
    const loaded = models.data?.items.find(({ name }) => name === model);
    const own = active.filter((policy) => policy.model === model);
    return own.length > 0 ? own.map((policy) => ({ model, loaded, policy })) : [{ model, loaded }];
  });
  return (
    <Section title="Models and active policies" actions={<Link href="/policies">All policies</Link>}>
      {problem ? (
        <ErrorState problem={problem} retry={() => void models.refetch()} compact />
      ) : !policies.data || (may && !models.data) ? (
        <Loading what="models" />
      ) : rows.length === 0 ? (
        <EmptyState title="No model is loaded, and no policy is active" compact />
      ) : (
        <Table
          caption="Models and active policies"
          columns={COLUMNS}
          rows={rows}
          id={({ model, policy }) => `${model} ${policy?.name ?? ""}`}
        />
      )}
    </Section>
  );
}
