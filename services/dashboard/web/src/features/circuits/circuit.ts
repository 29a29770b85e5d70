/** A circuit that a search found, as a graph: units by layer, columns by what they are. */

import {
  cumulativeShares,
  makeGraph,
  type Column,
  type Edge,
  type FeatureName,
  type Graph,
  type GraphNode,
  type Kind,
  type Measured,
} from "./graph";

export interface CurvePoint {
  units: number;
  weakest: number;
  kept: Measured;
}

/** `circuit.json`, as `interpretops.circuits.CircuitGraph` writes it. */
export interface CircuitFile {
  risk_class: string;
  behaviour: string;
  n_layers: number;
  effect: Measured;
  units: readonly { unit: string; attribution: number; ccs: Measured | null }[];
  edges: readonly { source: string; target: string; score: number }[];
  faithfulness: Measured;
  completeness: Measured;
  minimality: Measured;
  stability: Measured;
  split_half: Measured;
  feature_effect: Record<string, Measured>;
  calibration: { spearman: number; n: number };
  pairs: number;
  dropped: number;
  components: number;
  borrowed?: { source: string; pairs: number; prompts: number; unmatched: number } | null;
  faithfulness_curve?: readonly CurvePoint[];
}

const UNIT = /^layer(\d+)\.(?:(mlp|error)|attn\.h(\d+)|f(\d+))$/;
/** The node that every path ends at. */
export const OUTPUT = "output";

export interface Unit {
  kind: Kind;
  layer: number;
  index: number;
}

/** What a unit's name says, or null where it is none. */
export function parseUnit(name: string): Unit | null {
  const match = UNIT.exec(name);
  if (match === null) return null;
  const [, layer, whole, head, feature] = match;
  if (whole !== undefined) return { kind: whole as "mlp" | "error", layer: Number(layer), index: 0 };
  return head !== undefined
    ? { kind: "head", layer: Number(layer), index: Number(head) }
    : { kind: "feature", layer: Number(layer), index: Number(feature) };
}

/** The graph of a circuit. Heads stand in a column by their number, so that columns mean something. */
export function circuitGraph(file: CircuitFile): Graph {
  const units = file.units.flatMap((scored) => {
    const unit = parseUnit(scored.unit);
    return unit === null ? [] : [{ ...scored, ...unit }];
  });
  const heads = Math.max(1, Math.round(file.components / file.n_layers) - 1);
  const hasFeatures = units.some(({ kind }) => kind === "feature");
  const hasErrors = units.some(({ kind }) => kind === "error");
  const columns: Column[] = [
    ...Array.from({ length: heads }, (_, i) => ({ label: `h${i}`, group: "Attention heads" })),
    { label: "MLP", group: "" },
    ...(hasFeatures ? [{ label: "Features", group: "" }] : []),
    ...(hasErrors ? [{ label: "Error", group: "" }] : []),
  ];
  const place: Record<string, number> = {
    mlp: heads,
    feature: heads + 1,
    error: heads + (hasFeatures ? 2 : 1),
  };
  const strengths = units.map(({ attribution }) => Math.abs(attribution));
  const shares = sharesByFamily(
    strengths,
    units.map(({ kind }) => kind === "head" || kind === "mlp"),
  );
  const nodes: GraphNode[] = units.map((unit, i) => ({
    id: unit.unit,
    kind: unit.kind,
    row: unit.layer,
    column: unit.kind === "head" ? unit.index : (place[unit.kind] ?? 0),
    name: shortName(unit),
    title: "",
    strength: strengths[i] ?? 0,
    share: shares[i] ?? 0,
    ccs: unit.ccs,
    attribution: unit.attribution,
    activation: null,
    probability: null,
    feature: unit.kind === "feature" ? featureOf(unit) : null,
    members: [],
  }));
  nodes.push({
    id: OUTPUT,
    kind: "logit",
    row: file.n_layers,
    column: heads,
    name: "output",
    title: file.behaviour,
    strength: 1,
    share: 0,
    ccs: null,
    attribution: null,
    activation: null,
    probability: null,
    feature: null,
    members: [],
  });
  const index = new Map(nodes.map((node, i) => [node.id, i]));
  const edges: Edge[] = file.edges.flatMap(({ source, target, score }) => {
    const from = index.get(source);
    const to = index.get(target);
    return from === undefined || to === undefined ? [] : [{ source: from, target: to, weight: score }];
  });
  const rows = [...Array.from({ length: file.n_layers }, (_, i) => String(i)), "out"];
  return makeGraph("contrast", nodes, edges, rows, columns);
}

/** Heads and MLPs add up to the stream, and features are readings of it: each among its own. */
function sharesByFamily(strengths: readonly number[], components: readonly boolean[]): number[] {
  const shares = new Array<number>(strengths.length).fill(0);
  for (const family of [true, false]) {
    const members = strengths.map((_, i) => i).filter((i) => components[i] === family);
    const held = cumulativeShares(members.map((i) => strengths[i] ?? 0));
    members.forEach((i, place) => (shares[i] = held[place] ?? 0));
  }
  return shares;
}

function featureOf({ layer, index }: Unit): FeatureName {
  return { layer, index };
}

function shortName({ kind, layer, index }: Unit): string {
  if (kind === "head") return `${layer}.h${index}`;
  if (kind === "feature") return `f${index}`;
  return kind === "mlp" ? `${layer}.mlp` : "error";
}
