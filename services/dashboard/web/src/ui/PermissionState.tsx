import { Lock } from "lucide-react";

import { useCaller, type Scope } from "@/api/session";

import { EmptyState } from "./EmptyState";

const ROLES: Partial<Record<Scope, string>> = {
  "jobs:write": "operator",
  "artifacts:write": "operator",
  "policies:write": "operator",
  generate: "operator",
  "policies:approve": "approver",
  "policies:activate": "approver",
  "audit:read": "approver",
  "keys:read": "admin",
  "keys:write": "admin",
  "tenants:write": "admin",
};

/** The caller may not see this page, and whom that is for. */
export function PermissionState({ needs }: { needs: Scope }) {
  const { subject, roles } = useCaller();
  return (
    <EmptyState alone title="You may not see this" icon={Lock}>
      <p>
        It needs the scope <code>{needs}</code>
        {ROLES[needs] !== undefined && <>, which begins with the role {ROLES[needs]}</>}. You are{" "}
        {subject}, {roles.join(", ")}.
      </p>
    </EmptyState>
  );
}
