/** Supernodes: nodes that people read as one thing, drawn as one. */

import { at, makeGraph, type Edge, type Graph, type GraphNode } from "./graph";

export interface Supernode {
  name: string;
  nodes: readonly string[];
}

/** The id of the node that stands for a supernode. */
export function groupId(name: string): string {
  return `group:${name}`;
}

/** The graph with some supernodes drawn as one node each; edges between the same ends are added up. */
export function collapse(graph: Graph, groups: readonly Supernode[]): Graph {
  if (groups.length === 0) return graph;
  const target = new Int32Array(graph.nodes.length).fill(-1);
  const nodes: GraphNode[] = [];
  const made: GraphNode[] = [];
  groups.forEach(({ name, nodes: ids }, g) => {
    const members = ids.flatMap((id) => {
      const i = graph.index.get(id);
      return i === undefined || at(target, i) !== -1 ? [] : [i];
    });
    if (members.length === 0) return;
    for (const i of members) target[i] = -2 - g;
    made[g] = groupNode(graph, name, members);
  });
  graph.nodes.forEach((node, i) => {
    if (at(target, i) !== -1) return;
    target[i] = nodes.length;
    nodes.push(node);
  });
  const places = new Map<number, number>();
  made.forEach((node, g) => {
    places.set(-2 - g, nodes.length);
    nodes.push(node);
  });
  const place = (i: number) => (at(target, i) >= 0 ? at(target, i) : (places.get(at(target, i)) ?? 0));
  const sums = new Map<number, Edge>();
  for (let i = 0; i < graph.weights.length; i++) {
    const [source, end] = [place(at(graph.sources, i)), place(at(graph.targets, i))];
    if (source === end) continue;
    const key = source * nodes.length + end;
    const sum = sums.get(key);
    if (sum === undefined) sums.set(key, { source, target: end, weight: at(graph.weights, i) });
    else sum.weight += at(graph.weights, i);
  }
  return makeGraph(graph.form, nodes, [...sums.values()], graph.rows, graph.columns);
}

/** It stands where its strongest member does, and is as strong as all of them. */
function groupNode(graph: Graph, name: string, members: readonly number[]): GraphNode {
  const strongest = [...members].sort(
    (a, b) => at(graph.nodes, b).strength - at(graph.nodes, a).strength,
  );
  const first = at(graph.nodes, at(strongest, 0));
  return {
    ...first,
    id: groupId(name),
    kind: "group",
    name,
    title: "",
    strength: members.reduce((sum, i) => sum + at(graph.nodes, i).strength, 0),
    share: Math.min(...members.map((i) => at(graph.nodes, i).share)),
    ccs: null,
    attribution: null,
    activation: null,
    feature: null,
    members: strongest.map((i) => at(graph.nodes, i).id),
  };
}
