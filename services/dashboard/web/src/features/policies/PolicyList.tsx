"use client";

import { FilePlus2, Workflow } from "lucide-react";
import Link from "next/link";

import { api, type Schema } from "@/api/client";
import { PolicyBadge } from "@/ui/Badge";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { LinkButton } from "@/ui/LinkButton";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";

import { policyLink } from "./links";

type Listed = Schema["ListedPolicy"];

const COLUMNS: readonly Column<Listed>[] = [
  {
    head: "Policy",
    cell: (policy) => <Link href={policyLink(policy.name, policy.version)}>{policy.name}</Link>,
    wide: true,
  },
  {
    head: "In production",
    cell: ({ name, active_version: active }) =>
      active === null ? "no version" : <Link href={policyLink(name, active)}>version {active}</Link>,
  },
  {
    head: "Newest",
    cell: (policy) => (
      <>
        {policy.version} <PolicyBadge state={policy.state} />
      </>
    ),
  },
  { head: "Model", cell: (policy) => policy.model, minor: true },
  { head: "Written by", cell: (policy) => policy.author },
  { head: "Written", cell: (policy) => <Ago at={policy.created_at} /> },
];

/** All policies, each by its newest version. */
export function PolicyList() {
  const policies = api.useQuery("get", "/policies", { params: { query: { limit: 200 } } });
  const actions = (
    <>
      <LinkButton href="/policies/edit" icon={FilePlus2}>
        Write a policy
      </LinkButton>
      <LinkButton href="/policies/propose" icon={Workflow} kind="primary">
        Propose from a circuit
      </LinkButton>
    </>
  );
  return (
    <Page
      title="Policies"
      lead="What steers a model: when it acts, and on what. A version reaches production by two pairs of eyes."
      actions={actions}
    >
      <Section title="By name">
        {policies.error ? (
          <ErrorState problem={policies.error} retry={() => void policies.refetch()} compact />
        ) : policies.data === undefined ? (
          <Loading what="policies" />
        ) : policies.data.items.length === 0 ? (
          <EmptyState title="No policies yet" compact>
            <p>
              Fit one to a circuit that was found, or write one by hand. It begins as a draft, which can be
              tried in the playground at once.
            </p>
          </EmptyState>
        ) : (
          <Table
            caption="Policies"
            columns={COLUMNS}
            rows={policies.data.items}
            id={(policy) => policy.name}
          />
        )}
      </Section>
    </Page>
  );
}
