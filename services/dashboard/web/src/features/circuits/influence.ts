/** What circuit-tracer computes from a graph's own weights, for edges that lead from lower to higher layers.
 *
 * A node's inputs are normalised to sum to 1 in size, and influence flows from the outputs back along
 * them (`compute_influence`, `compute_graph_scores` in github.com/safety-research/circuit-tracer, MIT).
 */

import type { Edge, Graph } from "./graph";
import { at, byClass } from "./graph";

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
  const order = edges
    .map((_, i) => i)
    .sort((a, b) => at(heights, at(edges, b).target) - at(heights, at(edges, a).target));
  for (const i of order) {
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

const orders = new WeakMap<Graph, Uint32Array>();

/** A graph's edges, those into the highest rows first; it is asked for while a slider moves. */
function highestFirst(graph: Graph): Uint32Array {
  let order = orders.get(graph);
  if (order === undefined) {
    const top = graph.rows.length;
    const depths = Uint32Array.from(graph.targets, (target) => top - at(graph.nodes, target).row);
    order = byClass(depths, top + 1, Uint32Array.from(depths, (_, i) => i)).edges;
    orders.set(graph, order);
  }
  return order;
}

/** How much of an imported graph runs through features and not through errors, of what is shown. */
export function graphScores(graph: Graph, shown: Uint8Array, shownEdges: Uint8Array): GraphScores {
  const count = graph.nodes.length;
  const incoming = new Float64Array(count);
  const fromErrors = new Float64Array(count);
  const isError = Uint8Array.from(graph.nodes, ({ kind }) => Number(kind === "error"));
  for (let i = 0; i < shownEdges.length; i++) {
    if (!at(shownEdges, i)) continue;
    const [source, target, size] = [at(graph.sources, i), at(graph.targets, i), Math.abs(at(graph.weights, i))];
    incoming[target] = at(incoming, target) + size;
    if (at(isError, source)) fromErrors[target] = at(fromErrors, target) + size;
  }
  const found = Float64Array.from(graph.nodes, (node, i) =>
    node.kind === "logit" && at(shown, i) ? node.probability || 1e-3 : 0,
  );
  const total = found.reduce((sum, one) => sum + one, 0) || 1;
  for (let i = 0; i < count; i++) found[i] = at(found, i) / total;
  for (const edge of highestFirst(graph)) {
    if (!at(shownEdges, edge)) continue;
    const [source, target] = [at(graph.sources, edge), at(graph.targets, edge)];
    const share = Math.abs(at(graph.weights, edge)) / (at(incoming, target) || 1);
    found[source] = at(found, source) + share * at(found, target);
  }
  let [tokens, errors, whole, covered] = [0, 0, 0, 0];
  graph.nodes.forEach(({ kind }, i) => {
    if (kind === "embedding") tokens += at(found, i);
    if (kind === "error") errors += at(found, i);
    if (at(incoming, i) === 0) return;
    whole += at(found, i);
    covered += at(found, i) * (1 - at(fromErrors, i) / at(incoming, i));
  });
  return {
    replacement: tokens + errors > 0 ? tokens / (tokens + errors) : NaN,
    completeness: whole > 0 ? covered / whole : NaN,
  };
}
