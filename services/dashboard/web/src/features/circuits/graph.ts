/** What the page draws: one kind of graph, whether it was found here or came from elsewhere. */

export type Kind = "head" | "mlp" | "feature" | "error" | "logit" | "embedding" | "group" | "other";

export const KINDS: readonly Kind[] = [
  "head",
  "mlp",
  "feature",
  "error",
  "logit",
  "embedding",
  "group",
  "other",
];

export const KIND_NAMES: Record<Kind, { one: string; many: string }> = {
  head: { one: "Attention head", many: "Attention heads" },
  mlp: { one: "MLP", many: "MLPs" },
  feature: { one: "Feature", many: "Features" },
  error: { one: "What the dictionary leaves out", many: "Errors" },
  logit: { one: "Output", many: "Outputs" },
  embedding: { one: "Token", many: "Tokens" },
  group: { one: "Supernode", many: "Supernodes" },
  other: { one: "Other node", many: "Other" },
};

export interface Measured {
  value: number;
  low: number;
  high: number;
  n: number;
}

/** Which feature of a dictionary a node is. */
export interface FeatureName {
  layer: number;
  index: number;
}

export interface GraphNode {
  /** The unit's name, or the `node_id` of an imported graph. */
  id: string;
  kind: Kind;
  /** Index into the graph's rows; edges lead upwards. */
  row: number;
  /** Index into the graph's columns. */
  column: number;
  /** A few letters, for the drawing. */
  name: string;
  /** What it is, in words; may be empty. */
  title: string;
  /** Its size: what thresholds go by, 0 or more. */
  strength: number;
  /** Share of all strength of its family that it and the stronger ones hold; 0 is never pruned. */
  share: number;
  ccs: Measured | null;
  /** Estimated share of the effect, with its sign; null in imported graphs. */
  attribution: number | null;
  activation: number | null;
  /** Probability of an output token. */
  probability: number | null;
  feature: FeatureName | null;
  /** What a supernode holds. */
  members: readonly string[];
}

export interface Column {
  label: string;
  /** A heading over neighbouring columns. */
  group: string;
}

export type Form = "contrast" | "attribution_graph";

/** Edges of each node: `edges[start[i]] … edges[start[i + 1] - 1]` are those of node `i`, strongest first. */
export interface Adjacency {
  start: Uint32Array;
  edges: Uint32Array;
}

export interface Graph {
  form: Form;
  nodes: readonly GraphNode[];
  rows: readonly string[];
  columns: readonly Column[];
  sources: Uint32Array;
  targets: Uint32Array;
  weights: Float32Array;
  /** All edges, strongest first. */
  strongestFirst: Uint32Array;
  /** By edge, the share of all weight that it and the stronger ones hold. */
  edgeShares: Float32Array;
  incoming: Adjacency;
  outgoing: Adjacency;
  index: ReadonlyMap<string, number>;
}

export interface Edge {
  source: number;
  target: number;
  weight: number;
}

/** The item at a place that is known to exist. */
export function at<T>(items: ArrayLike<T>, place: number): T {
  return items[place] as T;
}

/** A graph of nodes and edges, with everything that is looked up while somebody moves the pointer. */
export function makeGraph(
  form: Form,
  nodes: readonly GraphNode[],
  edges: readonly Edge[],
  rows: readonly string[],
  columns: readonly Column[],
): Graph {
  const sources = new Uint32Array(edges.length);
  const targets = new Uint32Array(edges.length);
  const weights = new Float32Array(edges.length);
  edges.forEach((edge, i) => {
    sources[i] = edge.source;
    targets[i] = edge.target;
    weights[i] = edge.weight;
  });
  const sizes = Array.from(weights, Math.abs);
  const strongestFirst = largestFirst(sizes);
  return {
    form,
    nodes,
    rows,
    columns,
    sources,
    targets,
    weights,
    strongestFirst: Uint32Array.from(strongestFirst),
    edgeShares: Float32Array.from(cumulativeShares(sizes, strongestFirst)),
    incoming: byClass(targets, nodes.length, strongestFirst),
    outgoing: byClass(sources, nodes.length, strongestFirst),
    index: new Map(nodes.map((node, i) => [node.id, i])),
  };
}

/** By item, the share of the whole that it and all larger ones hold. */
export function cumulativeShares(
  sizes: readonly number[],
  order: readonly number[] = largestFirst(sizes),
): number[] {
  const total = sizes.reduce((sum, size) => sum + size, 0) || 1;
  const shares = new Array<number>(sizes.length);
  let held = 0;
  for (const i of order) {
    held += at(sizes, i) / total;
    shares[i] = Math.min(held, 1);
  }
  return shares;
}

function largestFirst(sizes: readonly number[]): number[] {
  return sizes.map((_, i) => i).sort((a, b) => at(sizes, b) - at(sizes, a));
}

/** Places of items by their class, those of a class in the order in which they are given.
 *
 * A counting sort: with 50,000 edges, comparing them takes tens of milliseconds.
 */
export function byClass(classes: ArrayLike<number>, count: number, order: ArrayLike<number>): Adjacency {
  const start = new Uint32Array(count + 1);
  for (let i = 0; i < order.length; i++) {
    const one = at(classes, at(order, i));
    start[one + 1] = at(start, one + 1) + 1;
  }
  for (let i = 0; i < count; i++) start[i + 1] = at(start, i + 1) + at(start, i);
  const next = start.slice(0, count);
  const edges = new Uint32Array(order.length);
  for (let i = 0; i < order.length; i++) {
    const item = at(order, i);
    const one = at(classes, item);
    edges[at(next, one)] = item;
    next[one] = at(next, one) + 1;
  }
  return { start, edges };
}

/** The edges of a node, strongest first. */
export function edgesOf(adjacent: Adjacency, node: number): Uint32Array {
  return adjacent.edges.subarray(at(adjacent.start, node), at(adjacent.start, node + 1));
}
