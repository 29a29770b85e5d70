/** Where nodes stand: rows by layer, columns by token or by what they are. It does not move with thresholds. */

import { at, type Graph } from "./graph";

export interface Layout {
  /** By node, in the drawing's own units; y grows downwards, so that outputs are at the top. */
  x: Float32Array;
  y: Float32Array;
  width: number;
  height: number;
  columns: readonly { label: string; group: string; left: number; width: number }[];
  rows: readonly { label: string; y: number }[];
}

const STEP = 16;
const PAD = 14;
const ROW = 30;
/** Nodes of one cell that stand beside each other; further ones stand below. */
const ABREAST = 8;
const LINE = 12;
/** A drawing is at least this wide for its height, so that columns of a deep model stand apart. */
const LEAST_ASPECT = 1;
const MOST_STRETCH = 4;

/** Lay a graph out. */
export function layOut(graph: Graph): Layout {
  const cells = new Map<number, number[]>();
  const key = (row: number, column: number) => row * graph.columns.length + column;
  graph.nodes.forEach(({ row, column }, i) => {
    const cell = cells.get(key(row, column));
    if (cell === undefined) cells.set(key(row, column), [i]);
    else cell.push(i);
  });
  const most = new Array<number>(graph.columns.length).fill(1);
  const lines = new Array<number>(graph.rows.length).fill(1);
  for (const cell of cells.values()) {
    const { row, column } = at(graph.nodes, at(cell, 0));
    most[column] = Math.max(most[column] ?? 1, Math.min(cell.length, ABREAST));
    lines[row] = Math.max(lines[row] ?? 1, Math.ceil(cell.length / ABREAST));
  }
  let left = 0;
  const columns = graph.columns.map(({ label, group }, i) => {
    const width = (most[i] ?? 1) * STEP + PAD;
    const column = { label, group, left, width };
    left += width;
    return column;
  });
  let top = 0;
  const centres = new Array<number>(graph.rows.length);
  for (let row = graph.rows.length - 1; row >= 0; row--) {
    const height = ROW + ((lines[row] ?? 1) - 1) * LINE;
    centres[row] = top + height / 2;
    top += height;
  }
  const x = new Float32Array(graph.nodes.length);
  const y = new Float32Array(graph.nodes.length);
  for (const cell of cells.values()) {
    const { row, column } = at(graph.nodes, at(cell, 0));
    const { left: begin, width } = at(columns, column);
    // The strongest in the middle of the first line, so that pruning leaves the middle.
    cell.sort((a, b) => at(graph.nodes, b).strength - at(graph.nodes, a).strength || a - b);
    const count = Math.ceil(cell.length / ABREAST);
    cell.forEach((node, place) => {
      const line = Math.floor(place / ABREAST);
      const abreast = Math.min(ABREAST, cell.length - line * ABREAST);
      x[node] = begin + width / 2 + fromTheMiddle(place % ABREAST, abreast) * STEP;
      y[node] = at(centres, row) + (line - (count - 1) / 2) * LINE;
    });
  }
  const stretch = Math.min(MOST_STRETCH, Math.max(1, (top * LEAST_ASPECT) / left));
  return {
    x: x.map((one) => one * stretch),
    y,
    width: left * stretch,
    height: top,
    columns: columns.map((column) => ({
      ...column,
      left: column.left * stretch,
      width: column.width * stretch,
    })),
    rows: graph.rows.map((label, i) => ({ label, y: centres[i] ?? 0 })),
  };
}

/** 0, 1, -1, 2, -2, … shifted so that the whole is centred. */
function fromTheMiddle(place: number, count: number): number {
  const swing = place % 2 === 0 ? -place / 2 : (place + 1) / 2;
  return swing - (count % 2 === 0 ? 0.5 : 0);
}
