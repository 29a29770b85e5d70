"use client";

import { useCaller, useMay } from "@/api/session";
import { Facts } from "@/ui/Facts";
import { Page, Section } from "@/ui/Page";

import { Keys } from "./Keys";
import { Roles } from "./Roles";
import { TenantSection } from "./TenantSection";

/** Who one is, the tenant and what it keeps, roles, and for admins its keys and its end. */
export function SettingsPage() {
  const caller = useCaller();
  const mayKeys = useMay("keys:read");
  return (
    <Page title="Settings" lead="Who may do what, and how long things are kept.">
      <Section title="You">
        <Facts
          facts={[
            ["Signed in as", caller.subject],
            ["Tenant", caller.tenant],
            ["Roles", caller.roles.join(", ") || "none"],
          ]}
        />
      </Section>
      {mayKeys && <Keys />}
      <Roles />
      <TenantSection />
    </Page>
  );
}
