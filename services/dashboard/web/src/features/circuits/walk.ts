/** Walking a graph by keyboard: along rows, along edges. */

import { at, edgesOf, type Graph } from "./graph";
import type { Layout } from "./layout";
import type { Shown } from "./prune";

export type Step = "left" | "right" | "up" | "down" | "rowUp" | "rowDown" | "first" | "last";

/** The node that a step leads to; null where it leads nowhere.
 *
 * `up` and `down` follow the strongest shown edge to a higher or lower layer; `rowUp` and `rowDown` go
 * to the nearest node of the next layer, whether or not an edge leads there.
 */
export function walk(
  graph: Graph,
  layout: Layout,
  shown: Shown,
  from: number | null,
  step: Step,
): number | null {
  if (from === null || !at(shown.nodes, from)) return strongest(graph, shown);
  switch (step) {
    case "left":
    case "right":
      return beside(graph, layout, shown, from, step === "right" ? 1 : -1);
    case "up":
      return along(graph, shown, from, true);
    case "down":
      return along(graph, shown, from, false);
    case "rowUp":
      return nextRow(graph, layout, shown, from, 1);
    case "rowDown":
      return nextRow(graph, layout, shown, from, -1);
    case "first":
      return strongest(graph, shown);
    case "last":
      return highest(graph, shown);
  }
}

/** The neighbours of a node along shown edges, strongest first. */
export function neighbours(graph: Graph, shown: Shown, node: number, upwards: boolean): number[] {
  const adjacent = upwards ? graph.outgoing : graph.incoming;
  const ends = upwards ? graph.targets : graph.sources;
  return Array.from(edgesOf(adjacent, node))
    .filter((edge) => at(shown.edges, edge))
    .map((edge) => at(ends, edge));
}

function along(graph: Graph, shown: Shown, from: number, upwards: boolean): number | null {
  return neighbours(graph, shown, from, upwards)[0] ?? null;
}

function beside(
  graph: Graph,
  layout: Layout,
  shown: Shown,
  from: number,
  direction: 1 | -1,
): number | null {
  const { row } = at(graph.nodes, from);
  let best: number | null = null;
  graph.nodes.forEach((node, i) => {
    if (node.row !== row || i === from || !at(shown.nodes, i)) return;
    if (!isBehind(layout, from, i, direction)) return;
    if (best === null || isBehind(layout, i, best, direction)) best = i;
  });
  return best;
}

/** Whether `b` comes after `a` in reading order, or before it for direction -1. */
function isBehind(layout: Layout, a: number, b: number, direction: 1 | -1): boolean {
  const dx = (at(layout.x, b) - at(layout.x, a)) * direction;
  const dy = (at(layout.y, b) - at(layout.y, a)) * direction;
  return dx > 0 || (dx === 0 && (dy > 0 || (dy === 0 && (b - a) * direction > 0)));
}

function nextRow(
  graph: Graph,
  layout: Layout,
  shown: Shown,
  from: number,
  direction: 1 | -1,
): number | null {
  const { row } = at(graph.nodes, from);
  let best: number | null = null;
  let bestScore = Infinity;
  graph.nodes.forEach((node, i) => {
    const rows = (node.row - row) * direction;
    if (rows <= 0 || !at(shown.nodes, i)) return;
    const score = rows * 1e6 + Math.abs(at(layout.x, i) - at(layout.x, from));
    if (score < bestScore) [best, bestScore] = [i, score];
  });
  return best;
}

function strongest(graph: Graph, shown: Shown): number | null {
  return extreme(graph, shown, (i) => at(graph.nodes, i).strength - (isEnd(graph, i) ? 1e9 : 0));
}

function highest(graph: Graph, shown: Shown): number | null {
  return extreme(graph, shown, (i) => at(graph.nodes, i).row);
}

function isEnd(graph: Graph, i: number): boolean {
  const { kind } = at(graph.nodes, i);
  return kind === "logit" || kind === "embedding";
}

function extreme(graph: Graph, shown: Shown, size: (i: number) => number): number | null {
  let best: number | null = null;
  graph.nodes.forEach((_, i) => {
    if (at(shown.nodes, i) && (best === null || size(i) > size(best))) best = i;
  });
  return best;
}
