/** The drawing itself, on a canvas: edges by weight, nodes by kind, names where there is room. */

import { at, type Graph, type Kind } from "./graph";
import type { Layout } from "./layout";
import { strongestEdges, type Shown } from "./prune";
import { HOLLOW, KIND_COLOURS, trace } from "./shapes";

/** Where the drawing stands in the window: a place `x` is drawn at `x * k + this.x`. */
export interface View {
  k: number;
  x: number;
  y: number;
}

export interface Palette {
  kinds: Record<Kind, string>;
  surface: string;
  text: string;
  faint: string;
  line: string;
  band: string;
  negative: string;
  positive: string;
  theme?: "light" | "dark";
}

export const PALETTE_TOKENS = [
  "--surface",
  "--surface-2",
  "--text",
  "--text-3",
  "--border",
  "--neg",
  "--pos",
  ...new Set(Object.values(KIND_COLOURS)),
] as const;

/** The palette of resolved tokens. */
export function paletteOf(colours: Record<string, string>): Palette {
  const pick = (name: string) => colours[name] ?? "gray";
  return {
    kinds: Object.fromEntries(
      Object.entries(KIND_COLOURS).map(([kind, name]) => [kind, pick(name)]),
    ) as Record<Kind, string>,
    surface: pick("--surface"),
    text: pick("--text"),
    faint: pick("--text-3"),
    line: pick("--border"),
    band: pick("--surface-2"),
    negative: pick("--neg"),
    positive: pick("--pos"),
  };
}

/** Edges that are drawn at once, at most; a node's own are always drawn when it is chosen. */
export const MOST_EDGES = 5000;
const MOVING_EDGES = 1200;
const BUCKETS = 6;
const MOST_NAMES = 160;
/** Numbers of features say little: only so many are named. */
const MOST_NUMBERS = 24;
/** The names of layers stand here. */
const AXIS = 42;

export interface Scene {
  graph: Graph;
  layout: Layout;
  shown: Shown;
  view: View;
  width: number;
  height: number;
  palette: Palette;
  /** While the drawing moves, fewer edges and no names are drawn. */
  moving?: boolean;
}

/** Draw everything that is not under the pointer. */
export function paint(context: CanvasRenderingContext2D, scene: Scene): void {
  context.clearRect(0, 0, scene.width, scene.height);
  paintBands(context, scene);
  paintEdges(context, scene);
  paintNodes(context, scene);
  if (!scene.moving) paintNames(context, scene);
}

/** How large a node is drawn. */
export function radiusOf(graph: Graph, node: number, k: number): number {
  const { kind, strength } = at(graph.nodes, node);
  const scale = Math.min(1.7, Math.max(0.62, Math.sqrt(k)));
  if (kind === "logit" || kind === "embedding") return 5.5 * scale;
  const whole = strongest(graph);
  return (3 + 6 * Math.sqrt(Math.min(1, strength / whole))) * scale;
}

const wholes = new WeakMap<Graph, number>();

function strongest(graph: Graph): number {
  let found = wholes.get(graph);
  if (found === undefined) {
    found = graph.nodes.reduce(
      (most, { kind, strength }) =>
        kind === "logit" || kind === "embedding" ? most : Math.max(most, strength),
      0,
    );
    wholes.set(graph, found || 1);
  }
  return found || 1;
}

/** Every other row is shaded, so that a layer can be followed across. */
function paintBands(context: CanvasRenderingContext2D, { layout, view, width, palette }: Scene): void {
  context.fillStyle = palette.band;
  layout.rows.forEach(({ y }, i) => {
    const below = layout.rows[i - 1]?.y ?? layout.height;
    const above = layout.rows[i + 1]?.y ?? 0;
    if (i % 2 === 0) return;
    const top = ((y + above) / 2) * view.k + view.y;
    const bottom = ((y + below) / 2) * view.k + view.y;
    context.fillRect(0, top, width, bottom - top);
  });
}

function paintEdges(context: CanvasRenderingContext2D, scene: Scene): void {
  const { graph, layout, shown, view, palette } = scene;
  const drawn = strongestEdges(graph, shown, scene.moving ? MOVING_EDGES : MOST_EDGES);
  let largest = 0;
  for (const edge of drawn) largest = Math.max(largest, Math.abs(at(graph.weights, edge)));
  // One stroke for all edges of like weight and sign: thousands of strokes would take too long.
  const paths = Array.from({ length: BUCKETS * 2 }, () => new Path2D());
  for (const edge of drawn) {
    const weight = at(graph.weights, edge);
    const size = Math.sqrt(Math.abs(weight) / (largest || 1));
    const bucket = Math.min(BUCKETS - 1, Math.floor(size * BUCKETS));
    const path = at(paths, (weight < 0 ? 0 : BUCKETS) + bucket);
    addEdge(path, layout, view, at(graph.sources, edge), at(graph.targets, edge), weight < 0);
  }
  const crowd = Math.min(1, 500 / (drawn.length || 1));
  paths.forEach((path, i) => {
    const size = ((i % BUCKETS) + 1) / BUCKETS;
    context.globalAlpha = (0.1 + 0.62 * size) * (0.35 + 0.65 * crowd);
    context.lineWidth = 0.6 + 2.2 * size;
    context.strokeStyle = i < BUCKETS ? palette.negative : palette.positive;
    context.setLineDash(i < BUCKETS && drawn.length <= 1500 ? [5, 3] : []);
    context.stroke(path);
  });
  context.globalAlpha = 1;
  context.setLineDash([]);
}

/** An edge as a curve that leaves and arrives vertically, so that edges of one node part early.
 *
 * Within a column it bows aside: to the right where it raises, to the left where it lowers.
 */
export function addEdge(
  path: CanvasPath,
  layout: Layout,
  view: View,
  source: number,
  target: number,
  lowers: boolean,
): void {
  const [x0, y0] = [at(layout.x, source) * view.k + view.x, at(layout.y, source) * view.k + view.y];
  const [x1, y1] = [at(layout.x, target) * view.k + view.x, at(layout.y, target) * view.k + view.y];
  const bend = (y1 - y0) * 0.45;
  path.moveTo(x0, y0);
  const near = Math.max(0, 1 - Math.abs(x1 - x0) / 30);
  const bow = near * Math.min(90, Math.abs(y1 - y0) * 0.28) * (lowers ? -1 : 1);
  path.bezierCurveTo(x0 + bow, y0 + bend, x1 + bow, y1 - bend, x1, y1);
}

function paintNodes(context: CanvasRenderingContext2D, scene: Scene): void {
  const { graph, layout, shown, view, width, height, palette } = scene;
  const paths = new Map<Kind, Path2D>();
  for (let i = 0; i < shown.nodes.length; i++) {
    if (!at(shown.nodes, i)) continue;
    const [x, y] = [at(layout.x, i) * view.k + view.x, at(layout.y, i) * view.k + view.y];
    if (x < -20 || y < -20 || x > width + 20 || y > height + 20) continue;
    const { kind } = at(graph.nodes, i);
    let path = paths.get(kind);
    if (path === undefined) paths.set(kind, (path = new Path2D()));
    trace(path, kind, x, y, radiusOf(graph, i, view.k));
  }
  context.lineWidth = 1.4;
  for (const [kind, path] of paths) {
    const hollow = HOLLOW.has(kind);
    context.fillStyle = hollow ? palette.surface : palette.kinds[kind];
    context.strokeStyle = hollow ? palette.kinds[kind] : palette.surface;
    context.fill(path);
    context.stroke(path);
  }
}

/** Names of the strongest nodes, wherever they hide neither a node nor another name. */
function paintNames(context: CanvasRenderingContext2D, scene: Scene): void {
  const { palette } = scene;
  context.font = NAME_FONT;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const { text, x, y } of placeNames(scene, (name) => context.measureText(name).width)) {
    context.lineWidth = 3;
    context.strokeStyle = palette.surface;
    context.strokeText(text, x, y);
    context.fillStyle = palette.text;
    context.fillText(text, x, y);
  }
}

export const NAME_FONT = "11px system-ui, sans-serif";

export interface PlacedName {
  text: string;
  x: number;
  y: number;
}

/** Which names are drawn, and where: those of stronger nodes first. */
export function placeNames(
  { graph, layout, shown, view, width, height }: Scene,
  widthOf: (text: string) => number,
): PlacedName[] {
  const visible: number[] = [];
  const taken = new Occupied();
  for (let i = 0; i < shown.nodes.length; i++) {
    if (!at(shown.nodes, i)) continue;
    const [x, y] = [at(layout.x, i) * view.k + view.x, at(layout.y, i) * view.k + view.y];
    if (x < 0 || y < 0 || x > width || y > height) continue;
    visible.push(i);
    const radius = radiusOf(graph, i, view.k);
    taken.add(x - radius, y - radius, x + radius, y + radius);
  }
  const rank = (i: number) => {
    const { kind, strength } = at(graph.nodes, i);
    return kind === "logit" || kind === "group" ? 1e9 + strength : strength;
  };
  visible.sort((a, b) => rank(b) - rank(a));
  const placed: PlacedName[] = [];
  let numbers = 0;
  for (const i of visible) {
    if (placed.length >= MOST_NAMES) break;
    const { name, kind } = at(graph.nodes, i);
    // Tokens are named by the axis, and errors by their shape.
    if (kind === "embedding" || (kind === "error" && graph.form === "attribution_graph")) continue;
    const bare = graph.form === "attribution_graph" && /^f\d+$/.test(name);
    if (bare && view.k < 1.6 && numbers >= MOST_NUMBERS) continue;
    const text = name.length > 26 ? `${name.slice(0, 25)}…` : name;
    const radius = radiusOf(graph, i, view.k);
    const [x, y] = [at(layout.x, i) * view.k + view.x, at(layout.y, i) * view.k + view.y];
    const wide = widthOf(text);
    for (const [left, middle] of [
      [x + radius + 3, y],
      [x - radius - 3 - wide, y],
      [x - wide / 2, y - radius - 7],
      [x - wide / 2, y + radius + 8],
    ] as const) {
      const box = [left - 1, middle - 6, left + wide + 1, middle + 6] as const;
      if (left < AXIS || left + wide > width || !taken.isFree(...box)) continue;
      taken.add(...box);
      if (bare) numbers += 1;
      placed.push({ text, x: left, y: middle });
      break;
    }
  }
  return placed;
}

/** Rectangles that are taken, found by the cells of a grid. */
class Occupied {
  private readonly cells = new Map<number, (readonly [number, number, number, number])[]>();

  isFree(left: number, top: number, right: number, bottom: number): boolean {
    for (const key of this.keys(left, top, right, bottom)) {
      for (const [l, t, r, b] of this.cells.get(key) ?? []) {
        if (l < right && r > left && t < bottom && b > top) return false;
      }
    }
    return true;
  }

  add(left: number, top: number, right: number, bottom: number): void {
    for (const key of this.keys(left, top, right, bottom)) {
      const cell = this.cells.get(key);
      if (cell === undefined) this.cells.set(key, [[left, top, right, bottom]]);
      else cell.push([left, top, right, bottom]);
    }
  }

  private *keys(left: number, top: number, right: number, bottom: number): Generator<number> {
    const size = 40;
    for (let x = Math.floor(left / size); x <= Math.floor(right / size); x++) {
      for (let y = Math.floor(top / size); y <= Math.floor(bottom / size); y++) {
        yield x * 10_007 + y;
      }
    }
  }
}
