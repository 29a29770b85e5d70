"use client";

import { CircleCheck } from "lucide-react";
import Link from "next/link";

import { api } from "@/api/client";
import { useCaller, useMay } from "@/api/session";
import { AlarmBadge } from "@/features/drift/Alarms";
import { kindName } from "@/features/jobs/kinds";
import { JobBadge, PolicyBadge } from "@/ui/Badge";
import { ErrorState } from "@/ui/ErrorState";
import { Section } from "@/ui/Page";
import { Ago } from "@/ui/Time";

import styles from "./Overview.module.css";

const RECENT = 24 * 3600 * 1000;

/** What waits for somebody: alarms, policies to approve or activate, and work that failed today. */
export function Attention() {
  const { subject } = useCaller();
  const mayApprove = useMay("policies:approve");
  const policies = api.useQuery("get", "/policies", { params: { query: { limit: 200 } } });
  const failed = api.useQuery("get", "/jobs", {
    params: { query: { state: ["FAILED", "DEAD_LETTERED"], limit: 5 } },
  });
  const alarms = api.useQuery("get", "/alarms", { params: { query: { open: true, limit: 20 } } });
  if (policies.error) {
    return <ErrorState problem={policies.error} retry={() => void policies.refetch()} compact />;
  }
  if (!policies.data) return null;
  const waiting = policies.data.items.filter(({ state }) => state === "proposed" || state === "approved");
  const since = (policies.dataUpdatedAt || 0) - RECENT;
  const troubles = (failed.data?.items ?? []).filter(
    ({ finished_at: at }) => at && new Date(at).getTime() > since,
  );
  const open = (alarms.data?.items ?? []).filter(({ acknowledged_at: at }) => !at);
  return (
    <Section title="Waiting for somebody">
      {waiting.length + troubles.length + open.length === 0 ? (
        <p className={styles.calm}>
          <CircleCheck size={17} aria-hidden /> Nothing is.
        </p>
      ) : (
        <ul className={styles.attention}>
          {open.map((alarm) => (
            <li key={alarm.id}>
              <AlarmBadge of={alarm} />
              <Link href={`/drift?policy=${alarm.policy}`}>
                {alarm.policy}@{alarm.version}
              </Link>
              <span className={styles.faint}>
                {alarm.problem} · <Ago at={alarm.opened_at} />
              </span>
            </li>
          ))}
          {waiting.map((policy) => (
            <li key={policy.name}>
              <PolicyBadge state={policy.state} />
              <Link href={`/policies/view?name=${policy.name}`}>
                {policy.name}@{policy.version}
              </Link>
              <span className={styles.faint}>
                {policy.state === "proposed"
                  ? policy.author === subject
                    ? "you wrote it: somebody else has to approve it"
                    : mayApprove
                      ? `written by ${policy.author}: you may approve it`
                      : `written by ${policy.author}: it needs an approver`
                  : `approved by ${policy.approver ?? "nobody"}: it can be activated`}
              </span>
            </li>
          ))}
          {troubles.map((job) => (
            <li key={job.id}>
              <JobBadge state={job.state} />
              <Link href={`/jobs/view?id=${job.id}`}>{kindName(job.kind)}</Link>
              <span className={styles.faint}>
                {job.error?.problem} · <Ago at={job.finished_at ?? job.created_at} />
              </span>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}
