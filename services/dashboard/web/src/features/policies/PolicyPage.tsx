"use client";

import { FlaskConical, MessagesSquare, SquarePen } from "lucide-react";
import Link from "next/link";

import { api, type Schema } from "@/api/client";
import { PolicyBadge } from "@/ui/Badge";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { moment } from "@/ui/format";
import { LinkButton } from "@/ui/LinkButton";
import { Loading } from "@/ui/Loading";
import { Page } from "@/ui/Page";
import { Tabs } from "@/ui/Tabs";
import { Ago } from "@/ui/Time";
import { useUrlState } from "@/ui/url";

import { Changes } from "./Changes";
import { Editor } from "./Editor";
import { Fit } from "./Fit";
import { InWords } from "./InWords";
import { editLink, playLink, policyLink } from "./links";
import styles from "./Policies.module.css";
import { Steps } from "./Steps";

type Version = Schema["PolicyDocument"];

/** One policy: its versions, and what the chosen one says and has been through. */
export function PolicyPage() {
  const [query, set] = useUrlState();
  const name = query.get("name") ?? "";
  const versions = api.useQuery("get", "/policies/{name}", {
    params: { path: { name }, query: { limit: 200 } },
  });
  if (versions.error) {
    return <ErrorState problem={versions.error} retry={() => void versions.refetch()} />;
  }
  if (versions.data === undefined) return <Loading what={name} />;
  const all = versions.data.items;
  const wanted = Number(query.get("v"));
  const chosen = all.find(({ version }) => version === wanted) ?? all[0];
  if (chosen === undefined) return <EmptyState alone title="There is no such version" />;
  return (
    <Chosen
      key={chosen.version}
      chosen={chosen}
      all={all}
      tab={query.get("tab") ?? "words"}
      setTab={(tab) => set({ tab })}
    />
  );
}

interface ChosenProps {
  chosen: Version;
  all: readonly Version[];
  tab: string;
  setTab: (tab: string) => void;
}

function Chosen({ chosen, all, tab, setTab }: ChosenProps) {
  const { name, version } = chosen;
  const read = api.useQuery("get", "/policies/{name}/versions/{version}", {
    params: { path: { name, version } },
  });
  const details = read.data;
  const earlier = all.some((one) => one.version < version && one.activated_at !== null);
  const artifact = chosen.artifact_id;
  return (
    <Page
      title={
        <>
          {name} <span className={styles.faint}>version {version}</span>{" "}
          <PolicyBadge state={chosen.state} />
        </>
      }
      lead={<>For {chosen.model}</>}
      actions={
        <>
          {artifact !== null && (
            <>
              <LinkButton href={playLink(`${name}@${version}`)} icon={MessagesSquare}>
                Try
              </LinkButton>
              <LinkButton href={`/evaluations/run?policy=${name}@${version}`} icon={FlaskConical}>
                Evaluate
              </LinkButton>
            </>
          )}
          <LinkButton href={editLink({ name, version })} icon={SquarePen}>
            Edit as a new version
          </LinkButton>
          {details && <Steps version={details} earlier={earlier} />}
        </>
      }
    >
      <Way version={chosen} />
      <div className={styles.split}>
        <nav aria-label="Versions" className={styles.rail}>
          <h2 className={styles.railTitle}>Versions</h2>
          <ol>
            {all.map((one) => (
              <li key={one.version}>
                <Link
                  href={policyLink(name, one.version, tab)}
                  aria-current={one.version === version ? "page" : undefined}
                  className={styles.railItem}
                >
                  <span className={styles.railLine}>
                    <strong>{one.version}</strong> <PolicyBadge state={one.state} />
                  </span>
                  <span className={styles.small}>
                    {one.author} · <Ago at={one.created_at} />
                  </span>
                </Link>
              </li>
            ))}
          </ol>
        </nav>
        {read.error ? (
          <ErrorState problem={read.error} retry={() => void read.refetch()} compact />
        ) : details === undefined ? (
          <Loading what="the version" />
        ) : (
          <Tabs
            label="About this version"
            value={tab}
            onChange={setTab}
            tabs={[
              { id: "words", label: "In words", content: <InWords source={sourceOf(details)} /> },
              { id: "text", label: "Text", content: <Editor label="Text of the policy" value={details.yaml} /> },
              { id: "changes", label: "Changes", content: <Changes version={details} all={all} /> },
              { id: "fit", label: "How it was fitted", content: <Fit artifact={artifact} /> },
            ]}
          />
        )}
      </div>
    </Page>
  );
}

function sourceOf({ artifact_id: artifact, yaml }: Schema["PolicyDetails"]) {
  return artifact === null ? { yaml } : { artifact };
}

/** The way from draft to production, and how far this version has come. */
function Way({ version }: { version: Version }) {
  const stops: { name: string; at: string | null; who?: string | null; reached: boolean }[] = [
    { name: "Written", at: version.created_at, who: version.author, reached: true },
    {
      name: "Approval asked for",
      at: null,
      reached: ["proposed", "approved", "active"].includes(version.state) || version.approved_at !== null,
    },
    {
      name: "Approved",
      at: version.approved_at,
      who: version.approver,
      reached: version.approved_at !== null,
    },
    { name: "In production", at: version.activated_at, reached: version.activated_at !== null },
  ];
  if (version.state === "retired") {
    stops.push({ name: "Retired", at: version.retired_at, reached: true });
  }
  return (
    <ol className={styles.way} aria-label="How far it has come">
      {stops.map(({ name, at, who, reached }) => (
        <li key={name} className={reached ? styles.reached : styles.ahead}>
          <span className={styles.wayName}>
            {name}
            {!reached && <span className="visually-hidden"> (not yet)</span>}
          </span>
          <span className={styles.small}>
            {reached ? [who, at === null ? null : moment(at)].filter(Boolean).join(", ") : "not yet"}
          </span>
        </li>
      ))}
    </ol>
  );
}
