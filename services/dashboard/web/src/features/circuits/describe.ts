/** Nodes in words: what a screen reader says, and what stands in the table. */

import { figure, percent } from "@/ui/format";

import { at, edgesOf, KIND_NAMES, type Graph } from "./graph";
import type { Shown } from "./prune";

/** A node in a sentence or three. */
export function describe(graph: Graph, shown: Shown, node: number, label: string): string {
  const { kind, row, column, ccs, attribution, activation, probability } = at(graph.nodes, node);
  const parts = [`${label}, ${KIND_NAMES[kind].one.toLowerCase()}`];
  const layer = at(graph.rows, row);
  if (/^\d+$/.test(layer)) parts.push(`layer ${layer}`);
  if (graph.form === "attribution_graph") parts.push(`token ${column}, ${graph.columns[column]?.label ?? ""}`);
  if (ccs !== null) parts.push(`CCS ${figure(ccs.value)}, from ${figure(ccs.low)} to ${figure(ccs.high)}`);
  else if (attribution !== null) parts.push(`attribution ${figure(attribution)}, not measured alone`);
  if (activation !== null) parts.push(`activation ${figure(activation)}`);
  if (probability !== null) parts.push(`probability ${percent(probability)}`);
  const [into, out] = [countShown(graph, shown, node, false), countShown(graph, shown, node, true)];
  return `${parts.join(", ")}. ${into} edges in, ${out} out.`;
}

/** How many shown edges a node has. */
export function countShown(graph: Graph, shown: Shown, node: number, out: boolean): number {
  const edges = edgesOf(out ? graph.outgoing : graph.incoming, node);
  return edges.reduce((sum, edge) => sum + at(shown.edges, edge), 0);
}
