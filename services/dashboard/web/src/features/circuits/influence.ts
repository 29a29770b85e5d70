/** What circuit-tracer computes from a graph's own weights, for edges that lead from lower to higher layers.
 *
 * A node's inputs are normalised to sum to 1 in size, and influence flows from the outputs back along
 * them (`compute_influence`, `compute_graph_scores` in github.com/safety-research/circuit-tracer, MIT).
 */

import type { Edge, Graph } from "./graph";
import { at } from "./graph";

/** Influence of every node on the outputs.
 *
 * @param count How many nodes.
 * @param edges Edges; those that lead down or stay in a layer are followed all the same, once.
 * @param outputs By node, the weight of an output; 0 for the others.
 * @param heights By node, its height; edges lead upwards.
 */
export function influences(
  count: number,
  edges: readonly Edge[],
  outputs: readonly number[],
  heights: readonly number[],
): Float64Array {
  const incoming = new Float64Array(count);
  for (const { target, weight } of edges) incoming[target] = at(incoming, target) + Math.abs(weight);
  const found = Float64Array.from(outputs);
  const highestFirst = edges
    .map((_, i) => i)
    .sort((a, b) => at(heights, at(edges, b).target) - at(heights, at(edges, a).target));
  for (const i of highestFirst) {
    const { source, target, weight } = at(edges, i);
    const share = Math.abs(weight) / (at(incoming, target) || 1);
    found[source] = at(found, source) + share * at(found, target);
  }
  return found;
}

export interface GraphScores {
  /** Share of the influence on the outputs that comes from tokens and not from errors. */
  replacement: number;
  /** Share of all nodes' inputs, by influence, that is not an error. */
  completeness: number;
}

/** How much of an imported graph runs through features and not through errors, of what is shown. */
export function graphScores(graph: Graph, shown: Uint8Array, shownEdges: Uint8Array): GraphScores {
  const edges: Edge[] = [];
  for (let i = 0; i < graph.weights.length; i++) {
    const [source, target] = [at(graph.sources, i), at(graph.targets, i)];
    if (at(shown, source) && at(shown, target) && at(shownEdges, i)) {
      edges.push({ source, target, weight: at(graph.weights, i) });
    }
  }
  const outputs = graph.nodes.map((node, i) =>
    node.kind === "logit" && at(shown, i) ? node.probability || 1e-3 : 0,
  );
  const total = outputs.reduce((sum, one) => sum + one, 0) || 1;
  const found = influences(
    graph.nodes.length,
    edges,
    outputs.map((one) => one / total),
    graph.nodes.map(({ row }) => row),
  );
  let [tokens, errors] = [0, 0];
  graph.nodes.forEach(({ kind }, i) => {
    if (kind === "embedding") tokens += at(found, i);
    if (kind === "error") errors += at(found, i);
  });
  const incoming = new Float64Array(graph.nodes.length);
  const fromErrors = new Float64Array(graph.nodes.length);
  for (const { source, target, weight } of edges) {
    incoming[target] = at(incoming, target) + Math.abs(weight);
    if (at(graph.nodes, source).kind === "error") {
      fromErrors[target] = at(fromErrors, target) + Math.abs(weight);
    }
  }
  let [whole, covered] = [0, 0];
  incoming.forEach((sum, i) => {
    if (sum === 0) return;
    whole += at(found, i);
    covered += at(found, i) * (1 - at(fromErrors, i) / sum);
  });
  return {
    replacement: tokens + errors > 0 ? tokens / (tokens + errors) : NaN,
    completeness: whole > 0 ? covered / whole : NaN,
  };
}
