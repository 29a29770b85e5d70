"use client";

import Link from "next/link";

import { api } from "@/api/client";
import { ErrorState } from "@/ui/ErrorState";
import { Figure } from "@/ui/Figure";
import { percent, shortId } from "@/ui/format";
import { Loading } from "@/ui/Loading";

import styles from "./Drift.module.css";
import { circuitOf } from "./parts";

interface CircuitsProps {
  name: string;
  /** The version whose traffic is looked at, and the one that it is compared with. */
  version: number;
  before: number;
}

/** The circuits that two versions of a policy were fitted to: how much they share. */
export function Circuits({ name, version, before }: CircuitsProps) {
  const now = useCircuit(name, version);
  const then = useCircuit(name, before);
  const apart = now.circuit != null && then.circuit != null && now.circuit !== then.circuit;
  const compared = api.useQuery(
    "get",
    "/circuits/compare",
    { params: { query: { base: then.circuit ?? "", other: now.circuit ?? "" } } },
    { enabled: apart, retry: false },
  );
  if (now.loading || then.loading) return <Loading what="the circuits" />;
  if (now.circuit == null || then.circuit == null)
    return (
      <p className={styles.faint}>
        {now.circuit == null ? `Version ${version}` : `Version ${before}`} states no circuit, so there is nothing to
        compare.
      </p>
    );
  if (!apart) return <p>Both versions came from one circuit, {shortId(now.circuit)}.</p>;
  if (compared.error) return <ErrorState problem={compared.error} compact />;
  if (!compared.data) return <Loading what="the comparison" />;
  const { jaccard, weighted_jaccard: weighted, resampled, same_model: same, notes } = compared.data;
  return (
    <div className={styles.summary}>
      <p>
        Of all heads and MLPs, {percent(jaccard)} are in both (weighted by attribution {percent(weighted)})
        {resampled && (
          <>
            ; over resamples{" "}
            <Figure
              value={resampled.value}
              interval={[resampled.low, resampled.high]}
              n={resampled.n}
              format={percent}
            />
          </>
        )}
        . {same ? "Both were found in one model." : "They were found in two models."}{" "}
        <Link href={`/circuits/compare?base=${then.circuit}&other=${now.circuit}`}>Unit by unit</Link>
      </p>
      {notes.length > 0 && (
        <ul className={styles.list}>
          {notes.map((note) => (
            <li key={note}>{note}</li>
          ))}
        </ul>
      )}
    </div>
  );
}

function useCircuit(name: string, version: number): { circuit: string | null; loading: boolean } {
  const found = api.useQuery("get", "/policies/{name}/versions/{version}", {
    params: { path: { name, version } },
  });
  return { circuit: found.data ? circuitOf(found.data.yaml) : null, loading: found.isPending };
}
