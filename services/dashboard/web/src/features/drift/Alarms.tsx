"use client";

import { useQueryClient } from "@tanstack/react-query";
import { CircleCheck } from "lucide-react";
import { useState } from "react";

import { api, edge, must, type Schema } from "@/api/client";
import { useMay } from "@/api/session";
import { Badge } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import { Dialog, DialogActions } from "@/ui/Dialog";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { Loading } from "@/ui/Loading";
import { More, PAGED } from "@/ui/More";
import { Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";
import { useSay } from "@/ui/Toasts";
import { useUrlState } from "@/ui/url";

import styles from "./Drift.module.css";

type Alarm = Schema["AlarmDocument"];

/** What an alarm is about, in words. */
export const ALARM_KINDS: Record<Alarm["kind"], string> = {
  drift: "traffic drifted",
  evidence_expired: "evidence is old",
  canary_missed: "canary missed",
};

/** Alarms, and the button by which a person takes one on. */
export function Alarms() {
  const [query, set] = useUrlState();
  const all = query.get("alarms") === "all";
  const may = useMay("policies:activate");
  const [taking, setTaking] = useState<Alarm | null>(null);
  const alarms = api.useInfiniteQuery(
    "get",
    "/alarms",
    { params: { query: { limit: 20, ...(!all && { open: true }) } } },
    { ...PAGED, refetchInterval: 30_000 },
  );
  const rows = alarms.data?.pages.flatMap((page) => page.items) ?? [];
  const columns: readonly Column<Alarm>[] = [
    { head: "Alarm", cell: (alarm) => <AlarmBadge of={alarm} /> },
    { head: "Policy", cell: ({ policy, version }) => `${policy}@${version}` },
    { head: "What is wrong", cell: ({ problem }) => problem, wide: true },
    { head: "Since", cell: ({ opened_at: at }) => <Ago at={at} /> },
    {
      head: "Taken on by",
      cell: (alarm) =>
        alarm.acknowledged_by ? (
          <span title={alarm.note ?? undefined}>{alarm.acknowledged_by}</span>
        ) : may && !alarm.closed_at ? (
          <Button small onClick={() => setTaking(alarm)}>
            Take it on
          </Button>
        ) : (
          "nobody"
        ),
    },
  ];
  return (
    <Section
      title={all ? "Alarms" : "Open alarms"}
      actions={
        <Button small kind="quiet" onClick={() => set({ alarms: all ? null : "all" })}>
          {all ? "Only open ones" : "Closed ones too"}
        </Button>
      }
    >
      {alarms.error ? (
        <ErrorState problem={alarms.error} retry={() => void alarms.refetch()} compact />
      ) : !alarms.data ? (
        <Loading what="alarms" />
      ) : rows.length === 0 ? (
        <p className={styles.calm}>
          <CircleCheck size={17} aria-hidden /> There is none.
        </p>
      ) : (
        <>
          <Table caption="Alarms" columns={columns} rows={rows} id={({ id }) => id} />
          <More query={alarms} />
        </>
      )}
      {taking && <TakeOn alarm={taking} onLeave={() => setTaking(null)} />}
    </Section>
  );
}

export function AlarmBadge({ of: { kind, closed_at: closed } }: { of: Alarm }) {
  return <Badge tone={closed ? "idle" : "bad"}>{ALARM_KINDS[kind]}</Badge>;
}

function TakeOn({ alarm, onLeave }: { alarm: Alarm; onLeave: () => void }) {
  const [note, setNote] = useState("");
  const [busy, setBusy] = useState(false);
  const client = useQueryClient();
  const say = useSay();
  const take = async () => {
    setBusy(true);
    try {
      must(
        await edge.POST("/alarms/{alarm_id}/acknowledge", {
          params: { path: { alarm_id: alarm.id } },
          body: { note: note.trim() || null },
        }),
      );
      say.done("You are named on it");
      await client.invalidateQueries({ queryKey: ["get", "/alarms"] });
      onLeave();
    } catch (error) {
      say.failed(error);
      setBusy(false);
    }
  };
  return (
    <Dialog open onOpenChange={onLeave} title="Take this alarm on" description={alarm.problem}>
      <Field label="Note (optional)" hint="What you found, and what you are doing about it.">
        {(field) => (
          <textarea {...field} rows={3} maxLength={2000} value={note} onChange={(e) => setNote(e.target.value)} />
        )}
      </Field>
      <DialogActions>
        <Button onClick={onLeave}>Not now</Button>
        <Button kind="primary" busy={busy} onClick={() => void take()}>
          I see to it
        </Button>
      </DialogActions>
    </Dialog>
  );
}
