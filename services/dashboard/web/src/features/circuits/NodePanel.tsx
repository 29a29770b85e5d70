"use client";

import { Pin, PinOff } from "lucide-react";

import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";
import { Figure } from "@/ui/Figure";
import { figure, percent } from "@/ui/format";

import { Shape } from "./Controls";
import { FeatureCard } from "./FeatureCard";
import { at, edgesOf, KIND_NAMES, type Graph } from "./graph";
import type { Supernode } from "./groups";
import styles from "./Panels.module.css";
import type { Shown } from "./prune";
import type { Features } from "./useCircuit";

interface NodePanelProps {
  graph: Graph;
  shown: Shown;
  node: number | null;
  pinned: ReadonlySet<string>;
  groups: readonly Supernode[];
  features: Features;
  labelOf: (node: number) => string;
  onSelect: (node: number) => void;
  onPin: (node: number) => void;
  /** Puts the node into a supernode, or for an empty name into none; null for those who may not. */
  onGroup: ((node: number, group: string) => void) | null;
  onNewGroup: (ids: readonly string[]) => void;
}

/** The chosen node: what it is, what was measured, and what leads in and out. */
export function NodePanel(props: NodePanelProps) {
  const { graph, node, pinned, groups, features, labelOf, onPin, onGroup } = props;
  if (node === null) {
    return (
      <EmptyState title="Choose a node" compact>
        <p>Click one in the graph, or walk with the arrow keys.</p>
      </EmptyState>
    );
  }
  const chosen = at(graph.nodes, node);
  const isPinned = pinned.has(chosen.id);
  const place = features.placeOf(chosen.id);
  const layer = at(graph.rows, chosen.row);
  return (
    <div className={styles.stack}>
      <div className={styles.nodeHead}>
        <Shape kind={chosen.kind} size={20} />
        <div>
          <h2>{labelOf(node)}</h2>
          <p className={styles.small}>
            {KIND_NAMES[chosen.kind].one}
            {/^\d+$/.test(layer) && <> · layer {layer}</>}
            {graph.form === "attribution_graph" && chosen.kind !== "group" && (
              <>
                {" "}
                · token {chosen.column} <code>{graph.columns[chosen.column]?.label}</code>
              </>
            )}
          </p>
        </div>
        <Button small onClick={() => onPin(node)} aria-pressed={isPinned}>
          {isPinned ? <PinOff size={14} aria-hidden /> : <Pin size={14} aria-hidden />}
          {isPinned ? "Unpin" : "Pin"}
        </Button>
      </div>
      {chosen.title && <p className={styles.small}>{chosen.title}</p>}
      <dl className={styles.facts}>
        {graph.form === "contrast" && chosen.attribution !== null && (
          <>
            <dt title="Share of the effect that is lost when this unit alone takes its value on the harmless twin">
              CCS
            </dt>
            <dd>
              {chosen.ccs === null ? (
                <span className={styles.small}>not measured alone</span>
              ) : (
                <Figure
                  value={chosen.ccs.value}
                  interval={[chosen.ccs.low, chosen.ccs.high]}
                  n={chosen.ccs.n}
                  format={(value) => percent(value, 1)}
                />
              )}
            </dd>
            <dt title="Estimate of the same by integrated gradients">Attribution</dt>
            <dd>{percent(chosen.attribution, 1)} of the effect</dd>
          </>
        )}
        {graph.form === "attribution_graph" && chosen.kind !== "logit" && (
          <>
            <dt>Influence</dt>
            <dd>{figure(chosen.strength)}</dd>
          </>
        )}
        {chosen.activation !== null && (
          <>
            <dt>Activation</dt>
            <dd>{figure(chosen.activation)}</dd>
          </>
        )}
        {chosen.probability !== null && (
          <>
            <dt>Probability</dt>
            <dd>{percent(chosen.probability, 1)}</dd>
          </>
        )}
        <dt>Name</dt>
        <dd>
          <code>{chosen.id}</code>
        </dd>
      </dl>
      {chosen.kind === "group" && (
        <p className={styles.small}>
          Holds {chosen.members.length} nodes: {chosen.members.join(", ")}
        </p>
      )}
      {onGroup !== null && chosen.kind !== "group" && (
        <GroupPicker
          node={node}
          id={chosen.id}
          groups={groups}
          onGroup={onGroup}
          onNewGroup={props.onNewGroup}
        />
      )}
      {place !== null && <FeatureCard key={`${place.site} ${place.index}`} place={place} />}
      <Neighbours {...props} node={node} upwards={false} title="Leads in" />
      <Neighbours {...props} node={node} upwards title="Leads on to" />
    </div>
  );
}

interface GroupPickerProps {
  node: number;
  id: string;
  groups: readonly Supernode[];
  onGroup: (node: number, group: string) => void;
  onNewGroup: (ids: readonly string[]) => void;
}

function GroupPicker({ node, id, groups, onGroup, onNewGroup }: GroupPickerProps) {
  const present = groups.find(({ nodes }) => nodes.includes(id))?.name ?? "";
  return (
    <label className={styles.picker}>
      Supernode
      <select
        value={present}
        onChange={(event) => {
          if (event.target.value === "+") onNewGroup([id]);
          else onGroup(node, event.target.value);
        }}
      >
        <option value="">none</option>
        {groups.map(({ name }) => (
          <option key={name}>{name}</option>
        ))}
        <option value="+">New supernode…</option>
      </select>
    </label>
  );
}

const MOST = 12;

function Neighbours({
  graph,
  shown,
  node,
  upwards,
  title,
  labelOf,
  onSelect,
}: NodePanelProps & { node: number; upwards: boolean; title: string }) {
  const edges = edgesOf(upwards ? graph.outgoing : graph.incoming, node);
  const ends = upwards ? graph.targets : graph.sources;
  const visible = Array.from(edges).filter((edge) => at(shown.nodes, at(ends, edge)));
  const largest = Math.abs(visible.length > 0 ? at(graph.weights, at(visible, 0)) : 1);
  return (
    <section>
      <h3>
        {title} <span className={styles.small}>{visible.length}</span>
      </h3>
      {visible.length === 0 && <p className={styles.small}>No shown node.</p>}
      <ul className={styles.neighbours}>
        {visible.slice(0, MOST).map((edge) => {
          const other = at(ends, edge);
          const weight = at(graph.weights, edge);
          return (
            <li key={edge}>
              <button type="button" onClick={() => onSelect(other)}>
                <Shape kind={at(graph.nodes, other).kind} size={12} />
                <span className={styles.neighbourName}>{labelOf(other)}</span>
                <svg viewBox="0 0 40 8" preserveAspectRatio="none" aria-hidden>
                  <rect
                    width={(Math.abs(weight) / (largest || 1)) * 40}
                    height={8}
                    className={weight < 0 ? styles.lowers : styles.raises}
                  />
                </svg>
                <span>{graph.form === "contrast" ? percent(weight, 1) : figure(weight, 2)}</span>
              </button>
            </li>
          );
        })}
      </ul>
      {visible.length > MOST && <p className={styles.small}>and {visible.length - MOST} weaker ones</p>}
    </section>
  );
}
