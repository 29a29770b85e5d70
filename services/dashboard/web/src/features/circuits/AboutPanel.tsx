import Link from "next/link";
import type { ReactNode } from "react";

import { Figure } from "@/ui/Figure";
import { count, figure, percent, shortId } from "@/ui/format";
import { Ago } from "@/ui/Time";

import type { Measured } from "./graph";
import styles from "./Panels.module.css";
import type { Circuit } from "./useCircuit";

/** What is known of the circuit as a whole, and where it comes from. */
export function AboutPanel({ circuit }: { circuit: Circuit }) {
  const { artifact, found, imported } = circuit;
  return (
    <div className={styles.stack}>
      {found && (
        <>
          <p>
            What makes the model answer a risky prompt otherwise than its harmless twin: {found.behaviour}.
          </p>
          <dl className={styles.figures}>
            <Row name="Faithfulness" hint="Share of the effect that stays when everything else takes the twin's values">
              <Share of={found.faithfulness} />
            </Row>
            <Row name="Completeness" hint="Share of the effect that is lost when the circuit takes the twin's values">
              <Share of={found.completeness} />
            </Row>
            <Row name="Minimality" hint="Share of the tested units without which it keeps less">
              <Share of={found.minimality} />
            </Row>
            <Row name="Stability" hint="Overlap of circuits found on resamples of the pairs">
              <Share of={found.stability} />
            </Row>
            <Row name="Between halves" hint="Overlap of circuits found on disjoint halves of the pairs: stricter">
              <Share of={found.split_half} />
            </Row>
            <Row name="Estimates" hint="Rank correlation of attribution with exact patching">
              <span>
                ρ {figure(found.calibration.spearman, 2)}{" "}
                <span className={styles.small}>n {found.calibration.n}</span>
              </span>
            </Row>
            {Object.entries(found.feature_effect).map(([layer, share]) => (
              <Row
                key={layer}
                name={`Features, layer ${layer}`}
                hint="Share of the effect that is lost when the layer's features take the twin's values together"
              >
                <Share of={share} />
              </Row>
            ))}
            <Row name="Effect" hint="Mean difference of the metric between risky prompts and twins">
              <Figure
                value={found.effect.value}
                interval={[found.effect.low, found.effect.high]}
                n={found.effect.n}
              />
            </Row>
          </dl>
          <p className={styles.small}>
            Found on {count(found.pairs)} pairs{found.dropped > 0 && `; ${found.dropped} were left out`}.{" "}
            {count(found.units.length)} units are shown; the model has {count(found.components)} heads and MLPs.
            Units are summed over positions, so the graph has layers and no tokens.
          </p>
          {found.borrowed && (
            <p className={styles.small}>
              Harmless texts were borrowed from {found.borrowed.source}: topics differ within pairs.
            </p>
          )}
        </>
      )}
      {imported && (
        <>
          {imported.metadata.prompt && <blockquote className={styles.prompt}>{imported.metadata.prompt}</blockquote>}
          <dl className={styles.facts}>
            <dt>Model</dt>
            <dd>{String(imported.metadata.scan ?? "not said")}</dd>
            <dt>Made by</dt>
            <dd>
              {imported.metadata.info?.generator?.name ?? "not said"}
              {imported.metadata.info?.creator_name && `, ${imported.metadata.info.creator_name}`}
            </dd>
            <dt>Nodes</dt>
            <dd>{count(imported.nodes.length)}</dd>
            <dt>Links</dt>
            <dd>{count(imported.links.length)}</dd>
          </dl>
          {imported.metadata.info?.description && (
            <p className={styles.small}>{imported.metadata.info.description}</p>
          )}
          <p className={styles.small}>
            This graph was imported. Nothing in it was measured here, so it has no CCS and no faithfulness, and no
            policy can be fitted to it.
          </p>
        </>
      )}
      <dl className={styles.facts}>
        {artifact.model && (
          <>
            <dt>Model</dt>
            <dd>{artifact.model}</dd>
          </>
        )}
        <dt>Made</dt>
        <dd>
          <Ago at={artifact.created_at} />
        </dd>
        {artifact.parents.length > 0 && (
          <>
            <dt>From</dt>
            <dd>{artifact.parents.map(shortId).join(", ")}</dd>
          </>
        )}
        <dt>SHA-256</dt>
        <dd>
          <code title={artifact.sha256}>{artifact.sha256.slice(0, 16)}…</code>
        </dd>
      </dl>
      {found && (
        <p>
          <Link href={`/circuits/compare?base=${artifact.id}`}>Compare with another circuit</Link>
        </p>
      )}
    </div>
  );
}

function Row({ name, hint, children }: { name: string; hint: string; children: ReactNode }) {
  return (
    <div>
      <dt title={hint}>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Share({ of: { value, low, high, n } }: { of: Measured }) {
  return <Figure value={value} interval={[low, high]} n={n} format={(share) => percent(share)} />;
}
