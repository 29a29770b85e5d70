"use client";

import { useQueryClient } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { useState } from "react";

import { api, edge, must, type Schema } from "@/api/client";
import { useMay } from "@/api/session";
import { Badge } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import { Confirm } from "@/ui/Confirm";
import { Copy } from "@/ui/Copy";
import { Dialog, DialogActions } from "@/ui/Dialog";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";
import { More, PAGED } from "@/ui/More";
import { Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";
import { useSay } from "@/ui/Toasts";

import { IssueKey } from "./IssueKey";
import styles from "./Settings.module.css";

type Key = Schema["KeyDocument"];
type Issued = Schema["IssuedDocument"];

const GRACE_SECONDS = 86_400;

/** API keys: issue, rotate, revoke. A new key is shown once. */
export function Keys() {
  const keys = api.useInfiniteQuery("get", "/keys", { params: { query: { limit: 50 } } }, PAGED);
  const may = useMay("keys:write");
  const client = useQueryClient();
  const say = useSay();
  const [issuing, setIssuing] = useState(false);
  const [issued, setIssued] = useState<Issued | null>(null);
  const changed = () => client.invalidateQueries({ queryKey: ["get", "/keys"] });

  const rotate = async (prefix: string) => {
    const answer = await edge.POST("/keys/{prefix}/rotate", {
      params: { path: { prefix } },
      body: { grace_seconds: GRACE_SECONDS },
    });
    setIssued(must(answer));
    await changed();
  };
  const revoke = async ({ prefix, name }: Key) => {
    must(await edge.DELETE("/keys/{prefix}", { params: { path: { prefix } } }));
    say.done(`${name} is revoked`);
    await changed();
  };

  const columns: readonly Column<Key>[] = [
    { head: "Name", cell: ({ name }) => name, wide: true },
    { head: "Prefix", cell: ({ prefix }) => <code>{prefix}</code>, minor: true },
    { head: "Roles", cell: ({ roles }) => roles.join(", ") },
    { head: "State", cell: (key) => <KeyState of={key} /> },
    { head: "Last used", cell: ({ last_used_at: at }) => (at ? <Ago at={at} /> : "never") },
    { head: "Issued", cell: ({ created_at: at }) => <Ago at={at} />, minor: true },
    {
      head: <span className="visually-hidden">What can be done</span>,
      cell: (key) =>
        may &&
        stateOf(key) === "active" && (
          <span className={styles.row}>
            <Confirm
              label="Rotate"
              small
              title={`Rotate ${key.name}?`}
              action="Rotate"
              onConfirm={() => rotate(key.prefix)}
            >
              A new key with the same rights is issued. The old one goes on for a day.
            </Confirm>
            <Confirm
              label="Revoke"
              small
              danger
              title={`Revoke ${key.name}?`}
              action="Revoke"
              onConfirm={() => revoke(key)}
            >
              Whoever uses it is refused within seconds. This cannot be undone.
            </Confirm>
          </span>
        ),
    },
  ];
  const rows = keys.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <Section
      title="API keys"
      actions={
        may && (
          <Button small kind="primary" onClick={() => setIssuing(true)}>
            <Plus size={14} aria-hidden /> Issue a key
          </Button>
        )
      }
    >
      {keys.error ? (
        <ErrorState problem={keys.error} retry={() => void keys.refetch()} compact />
      ) : !keys.data ? (
        <Loading what="keys" />
      ) : rows.length === 0 ? (
        <EmptyState title="There are no keys" compact />
      ) : (
        <>
          <Table caption="API keys" columns={columns} rows={rows} id={({ prefix }) => prefix} />
          <More query={keys} />
        </>
      )}
      <IssueKey
        open={issuing}
        onOpenChange={setIssuing}
        onIssued={(key) => {
          setIssuing(false);
          setIssued(key);
          void changed();
        }}
      />
      <Dialog
        open={issued !== null}
        onOpenChange={() => setIssued(null)}
        title={`The key of ${issued?.name ?? ""}`}
        description="This is the only time that it is shown. Keep it where secrets are kept."
      >
        {issued && (
          <p className={styles.key}>
            <Copy text={issued.key} what="the key" />
          </p>
        )}
        <DialogActions>
          <Button kind="primary" onClick={() => setIssued(null)}>
            I have kept it
          </Button>
        </DialogActions>
      </Dialog>
    </Section>
  );
}

function stateOf({ revoked_at: revoked, expires_at: expires }: Key): "active" | "expired" | "revoked" {
  if (revoked) return "revoked";
  return expires && new Date(expires) < new Date() ? "expired" : "active";
}

function KeyState({ of: key }: { of: Key }) {
  const state = stateOf(key);
  if (state !== "active") return <Badge>{state}</Badge>;
  if (!key.expires_at) return <Badge tone="good">active</Badge>;
  return (
    <Badge tone="good">
      ends <Ago at={key.expires_at} />
    </Badge>
  );
}
