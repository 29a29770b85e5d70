/** Which node is under the pointer. */

import { quadtree, type Quadtree } from "d3";

import { at } from "./graph";
import type { Layout } from "./layout";

export type NodeTree = Quadtree<number>;

/** The shown nodes by place. */
export function nodeTree(layout: Layout, shown: Uint8Array): NodeTree {
  const nodes: number[] = [];
  for (let i = 0; i < shown.length; i++) if (at(shown, i)) nodes.push(i);
  return quadtree<number>()
    .x((i) => at(layout.x, i))
    .y((i) => at(layout.y, i))
    .addAll(nodes);
}

/** The node nearest to a place, within a distance; null where there is none. */
export function nodeAt(tree: NodeTree, x: number, y: number, reach: number): number | null {
  return tree.find(x, y, reach) ?? null;
}

/** The nodes within a rectangle. */
export function nodesWithin(
  tree: NodeTree,
  layout: Layout,
  [left, top, right, bottom]: readonly [number, number, number, number],
): number[] {
  const found: number[] = [];
  tree.visit((node, x0, y0, x1, y1) => {
    if (!node.length) {
      let leaf: typeof node | undefined = node;
      while (leaf !== undefined) {
        const i = leaf.data;
        const [x, y] = [at(layout.x, i), at(layout.y, i)];
        if (x >= left && x <= right && y >= top && y <= bottom) found.push(i);
        leaf = leaf.next;
      }
    }
    return x0 > right || x1 < left || y0 > bottom || y1 < top;
  });
  return found;
}
