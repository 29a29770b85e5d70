"use client";

import { Pin } from "lucide-react";
import { useId } from "react";

import { count, figure, percent } from "@/ui/format";

import styles from "./Controls.module.css";
import { FaithfulnessReadout } from "./FaithfulnessReadout";
import { KIND_NAMES, KINDS, type Graph, type Kind } from "./graph";
import { MOST_EDGES } from "./paint";
import type { Shown } from "./prune";
import { HOLLOW, KIND_COLOURS, outline } from "./shapes";
import type { Circuit } from "./useCircuit";
import type { ViewState } from "./viewState";

interface ControlsProps {
  circuit: Circuit;
  graph: Graph;
  shown: Shown;
  state: ViewState;
  change: (changes: Partial<ViewState>) => void;
}

/** What is shown: thresholds with what they cost, kinds, and only what is pinned. */
export function Controls({ circuit, graph, shown, state, change }: ControlsProps) {
  const hidden = new Set(state.hidden);
  const counts = new Map<Kind, number>();
  for (const { kind } of graph.nodes) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const flip = (kind: Kind) => {
    if (hidden.has(kind)) hidden.delete(kind);
    else hidden.add(kind);
    change({ hidden: KINDS.filter((one) => hidden.has(one)) });
  };
  const weakest = weakestShown(graph, shown);
  return (
    <div className={styles.controls}>
      <div className={styles.sliders}>
        <ShareSlider
          label="Nodes"
          value={state.nodeShare}
          onChange={(nodeShare) => change({ nodeShare })}
          said={`${count(shown.nodeCount)} of ${count(graph.nodes.length)}`}
          hint={
            weakest === null
              ? ""
              : circuit.found
                ? `weakest ${percent(weakest, 1)} of the effect`
                : `weakest influence ${figure(weakest, 2)}`
          }
        />
        <ShareSlider
          label="Edges"
          value={state.edgeShare}
          onChange={(edgeShare) => change({ edgeShare })}
          said={`${count(shown.edgeCount)} of ${count(graph.weights.length)}`}
          hint={shown.edgeCount > MOST_EDGES ? `the strongest ${count(MOST_EDGES)} are drawn` : ""}
        />
      </div>
      <FaithfulnessReadout circuit={circuit} graph={graph} shown={shown} state={state} />
      <fieldset className={styles.kinds}>
        <legend className="visually-hidden">Kinds that are shown</legend>
        {KINDS.filter((kind) => counts.has(kind)).map((kind) => (
          <label key={kind} className={styles.kind} data-off={hidden.has(kind) ? "" : undefined}>
            <input
              type="checkbox"
              className="visually-hidden"
              checked={!hidden.has(kind)}
              onChange={() => flip(kind)}
            />
            <Shape kind={kind} />
            {KIND_NAMES[kind].many}
            <span className={styles.count}>{count(counts.get(kind) ?? 0)}</span>
          </label>
        ))}
        <span className={styles.signs} aria-hidden>
          <svg width="24" height="8">
            <line x1="0" x2="24" y1="4" y2="4" className={styles.positive} />
          </svg>
          raises
          <svg width="24" height="8">
            <line x1="0" x2="24" y1="4" y2="4" className={styles.negative} />
          </svg>
          lowers
        </span>
        <label className={styles.kind} data-off={state.onlyPinned ? undefined : ""}>
          <input
            type="checkbox"
            className="visually-hidden"
            checked={state.onlyPinned}
            disabled={state.pinned.length === 0}
            onChange={() => change({ onlyPinned: !state.onlyPinned })}
          />
          <Pin size={13} aria-hidden />
          Only pinned and their neighbours
          <span className={styles.count}>{state.pinned.length}</span>
        </label>
      </fieldset>
    </div>
  );
}

/** The sign of a kind, as the graph draws it. */
export function Shape({ kind, size = 14 }: { kind: Kind; size?: number }) {
  const colour = `var(${KIND_COLOURS[kind]})`;
  return (
    <svg width={size} height={size} viewBox="-8 -8 16 16" aria-hidden>
      <path
        d={outline(kind, 0, 0, 5.6)}
        fill={HOLLOW.has(kind) ? "none" : colour}
        stroke={colour}
        strokeWidth={1.6}
      />
    </svg>
  );
}

interface ShareSliderProps {
  label: string;
  value: number;
  onChange: (value: number) => void;
  said: string;
  hint: string;
}

/** A share of strength, finer towards the end where most of the nodes are. */
function ShareSlider({ label, value, onChange, said, hint }: ShareSliderProps) {
  const id = useId();
  return (
    <div className={styles.slider}>
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type="range"
        min={0}
        max={1000}
        step={1}
        value={Math.round(toSlider(value) * 1000)}
        aria-valuetext={`the strongest, which hold ${percent(value, 1)} of the strength: ${said}`}
        onChange={(event) => onChange(fromSlider(Number(event.target.value) / 1000))}
      />
      <output htmlFor={id}>
        <b>{percent(value, value > 0.9 && value < 1 ? 1 : 0)}</b> of strength · {said}
        {hint && <> · {hint}</>}
      </output>
    </div>
  );
}

/** Half of the slider's way is the last tenth of the strength. */
export function fromSlider(place: number): number {
  const share = 1 - (1 - place) ** 2.2;
  return Number(share.toFixed(4));
}

export function toSlider(share: number): number {
  return 1 - (1 - Math.min(1, Math.max(0, share))) ** (1 / 2.2);
}

function weakestShown(graph: Graph, shown: Shown): number | null {
  let weakest = Infinity;
  graph.nodes.forEach(({ kind, strength }, i) => {
    if (shown.nodes[i] && kind !== "logit" && kind !== "embedding") weakest = Math.min(weakest, strength);
  });
  return Number.isFinite(weakest) ? weakest : null;
}
