"use client";

import { useCaller } from "@/api/session";
import { Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";

interface Power {
  scope: string;
  what: string;
  from: (typeof ROLES)[number];
}

const ROLES = ["viewer", "operator", "approver", "admin"] as const;

/** What each scope allows, and the first role that has it; each role has what those before it have. */
const POWERS: readonly Power[] = [
  { scope: "jobs:read", what: "Follow jobs", from: "viewer" },
  { scope: "artifacts:read", what: "See circuits, cards and reports", from: "viewer" },
  { scope: "policies:read", what: "See policies", from: "viewer" },
  { scope: "jobs:write", what: "Start, stop and repeat jobs", from: "operator" },
  { scope: "artifacts:write", what: "Import graphs, label features", from: "operator" },
  { scope: "policies:write", what: "Write and propose policies", from: "operator" },
  { scope: "generate", what: "Ask models, steered or not", from: "operator" },
  { scope: "policies:approve", what: "Approve what somebody else wrote", from: "approver" },
  { scope: "policies:activate", what: "Activate, roll back, retire", from: "approver" },
  { scope: "audit:read", what: "Read and verify the audit log", from: "approver" },
  { scope: "keys:read", what: "See API keys", from: "admin" },
  { scope: "keys:write", what: "Issue, rotate and revoke keys", from: "admin" },
  { scope: "tenants:write", what: "Shred the tenant", from: "admin" },
];

/** Who may do what. The server decides; this says how. */
export function Roles() {
  const { scopes } = useCaller();
  const columns: readonly Column<Power>[] = [
    { head: "May", cell: ({ what }) => what, wide: true },
    { head: "Scope", cell: ({ scope }) => <code>{scope}</code>, minor: true },
    ...ROLES.map((role) => ({
      head: role,
      cell: ({ from }: Power) => (ROLES.indexOf(role) >= ROLES.indexOf(from) ? "yes" : "no"),
    })),
    { head: "You", cell: ({ scope }) => (scopes.includes(scope) ? <b>yes</b> : "no") },
  ];
  return (
    <Section title="Roles">
      <Table caption="What each role may do" columns={columns} rows={POWERS} id={({ scope }) => scope} />
    </Section>
  );
}
