/** Which nodes and edges are shown: thresholds, hidden kinds, and what is always shown. */

import { at, edgesOf, type Graph, type Kind } from "./graph";

export interface Pruning {
  /** Nodes that together hold this share of the strength are kept; 1 keeps all. */
  nodeShare: number;
  /** The same for edges. */
  edgeShare: number;
  hidden: ReadonlySet<Kind>;
  /** Ids that are shown whatever their strength. */
  pinned: ReadonlySet<string>;
  /** Only what is pinned, with what it is linked to directly. */
  onlyPinned: boolean;
}

export interface Shown {
  /** By node, 1 where it is shown. */
  nodes: Uint8Array;
  /** By edge, 1 where it is shown. */
  edges: Uint8Array;
  nodeCount: number;
  edgeCount: number;
  /** Heads and MLPs that are kept, of all in the graph: what a circuit's faithfulness is of. */
  components: number;
  allComponents: number;
}

const ROUNDING = 1e-6;

/** Apply thresholds to a graph. */
export function prune(graph: Graph, pruning: Pruning): Shown {
  const nodes = new Uint8Array(graph.nodes.length);
  let [components, allComponents] = [0, 0];
  graph.nodes.forEach((node, i) => {
    const pinned = pruning.pinned.has(node.id);
    const kept = node.share <= pruning.nodeShare + ROUNDING || isFirst(graph, i, pruning);
    if ((kept && !pruning.hidden.has(node.kind)) || pinned) nodes[i] = 1;
    if (node.kind === "head" || node.kind === "mlp") {
      allComponents += 1;
      if (kept) components += 1;
    }
  });
  if (pruning.onlyPinned) keepNeighbourhood(graph, nodes, pruning.pinned);
  const edges = new Uint8Array(graph.weights.length);
  let edgeCount = 0;
  for (let i = 0; i < edges.length; i++) {
    if (!at(nodes, at(graph.sources, i)) || !at(nodes, at(graph.targets, i))) continue;
    if (at(graph.edgeShares, i) <= pruning.edgeShare + ROUNDING) {
      edges[i] = 1;
      edgeCount += 1;
    }
  }
  return {
    nodes,
    edges,
    edgeCount,
    nodeCount: nodes.reduce((sum, one) => sum + one, 0),
    components,
    allComponents,
  };
}

/** The strongest node holds some share by itself; below that share a graph would be empty. */
function isFirst(graph: Graph, node: number, { nodeShare }: Pruning): boolean {
  const { share, strength } = at(graph.nodes, node);
  if (nodeShare <= 0) return false;
  return share > 0 && strength > 0 && share <= firstShare(graph, node);
}

const firsts = new WeakMap<Graph, Map<boolean, number>>();

function firstShare(graph: Graph, node: number): number {
  let found = firsts.get(graph);
  if (found === undefined) {
    found = new Map();
    for (const one of graph.nodes) {
      if (one.share <= 0) continue;
      const family = isComponent(one.kind);
      found.set(family, Math.min(found.get(family) ?? Infinity, one.share));
    }
    firsts.set(graph, found);
  }
  return found.get(isComponent(at(graph.nodes, node).kind)) ?? 0;
}

function isComponent(kind: Kind): boolean {
  return kind === "head" || kind === "mlp";
}

function keepNeighbourhood(graph: Graph, nodes: Uint8Array, pinned: ReadonlySet<string>): void {
  const near = new Uint8Array(nodes.length);
  for (const id of pinned) {
    const i = graph.index.get(id);
    if (i === undefined) continue;
    near[i] = 1;
    for (const edge of edgesOf(graph.incoming, i)) near[at(graph.sources, edge)] = 1;
    for (const edge of edgesOf(graph.outgoing, i)) near[at(graph.targets, edge)] = 1;
  }
  near.forEach((one, i) => {
    if (!one) nodes[i] = 0;
  });
}

/** The strongest of the shown edges, at most so many: what a canvas draws at once. */
export function strongestEdges(graph: Graph, shown: Shown, most: number): Uint32Array {
  const found = new Uint32Array(Math.min(most, shown.edgeCount));
  let count = 0;
  for (const edge of graph.strongestFirst) {
    if (count === found.length) break;
    if (at(shown.edges, edge)) found[count++] = edge;
  }
  return found.subarray(0, count);
}
