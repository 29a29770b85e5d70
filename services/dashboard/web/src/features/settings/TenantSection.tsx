"use client";

import { useState } from "react";

import { api, edge, must } from "@/api/client";
import { useMay } from "@/api/session";
import { Button } from "@/ui/Button";
import { Dialog, DialogActions } from "@/ui/Dialog";
import { ErrorState } from "@/ui/ErrorState";
import { Facts } from "@/ui/Facts";
import { Field } from "@/ui/Field";
import { bytes, count, moment } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Section } from "@/ui/Page";
import { useSay } from "@/ui/Toasts";

import styles from "./Settings.module.css";

/** The tenant: what it keeps, for how long, and its end. */
export function TenantSection() {
  const tenant = api.useQuery("get", "/tenant");
  const mayShred = useMay("tenants:write");
  const found = tenant.data;
  return (
    <Section title="Tenant and retention" actions={mayShred && found && <Shred name={found.name} />}>
      {tenant.error ? (
        <ErrorState problem={tenant.error} retry={() => void tenant.refetch()} compact />
      ) : !found ? (
        <Loading what="the tenant" />
      ) : (
        <>
          <Facts
            facts={[
              ["Name", found.name],
              ["Since", moment(found.created_at)],
              ["Objects sealed", found.sealed ? "yes, with a key of its own" : "no"],
              ["Personal information", found.pii_redaction ? "removed before it is kept" : "kept"],
              ["Second person for policies", found.separation_of_duties ? "needed" : "not needed"],
              ["Kept for", `${found.retention_days} days`],
              ["Artifacts", `${count(found.artifacts)}, ${bytes(found.bytes)}`],
              ["Of these due within 3 days", count(found.expiring)],
              ["Jobs", count(found.jobs)],
            ]}
          />
          <p className={styles.note}>
            Nothing is deleted that something kept longer was made from. Retention and redaction are
            settings of the installation (<code>compliance</code> in <code>config.yaml</code>); its
            operators make tenants with <code>mechctl tenants create</code>.
          </p>
        </>
      )}
    </Section>
  );
}

/** Shred the tenant, once its name was typed. */
function Shred({ name }: { name: string }) {
  const [open, setOpen] = useState(false);
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const say = useSay();
  const shred = async () => {
    setBusy(true);
    try {
      must(await edge.DELETE("/tenant", { body: { name: typed } }));
      window.location.reload(); // nobody is signed in any more
    } catch (error) {
      say.failed(error);
      setBusy(false);
    }
  };
  return (
    <>
      <Button kind="danger" small onClick={() => setOpen(true)}>
        Shred this tenant…
      </Button>
      <Dialog
        open={open}
        onOpenChange={setOpen}
        title={`Shred ${name}?`}
        description="Its data key is deleted, so that no copy of its objects opens again, with all jobs, artifacts, policies and keys. This cannot be undone. Its name and its audit log remain."
      >
        <Field label={`Type ${name} to go on`}>
          {(field) => (
            <input {...field} value={typed} autoComplete="off" onChange={(e) => setTyped(e.target.value)} />
          )}
        </Field>
        <DialogActions>
          <Button onClick={() => setOpen(false)}>Keep it</Button>
          <Button kind="danger" disabled={typed !== name} busy={busy} onClick={() => void shred()}>
            Shred it
          </Button>
        </DialogActions>
      </Dialog>
    </>
  );
}
