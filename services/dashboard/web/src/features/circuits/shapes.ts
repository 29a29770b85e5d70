/** The outline of each kind of node: kinds are told apart by shape before colour. */

import type { Kind } from "./graph";

export type Point = readonly [number, number];

/** Corners of a shape around 0, 0 with radius 1; null is a circle. */
const CORNERS: Record<Kind, readonly Point[] | null> = {
  feature: null,
  head: polygon(3, -90, 1.25),
  mlp: polygon(4, -45, 1.2),
  error: polygon(4, 0, 1.2),
  logit: polygon(6, 0, 1.2),
  embedding: [
    [-1.1, -0.62],
    [1.1, -0.62],
    [1.1, 0.62],
    [-1.1, 0.62],
  ],
  group: polygon(8, 22.5, 1.25),
  other: polygon(5, -90, 1.15),
};

/** Kinds that are drawn hollow: what nothing explains. */
export const HOLLOW: ReadonlySet<Kind> = new Set<Kind>(["error"]);

/** The colour token of each kind. */
export const KIND_COLOURS: Record<Kind, `--${string}`> = {
  head: "--cat-1",
  mlp: "--cat-2",
  feature: "--cat-3",
  error: "--cat-7",
  logit: "--text",
  embedding: "--cat-6",
  group: "--cat-4",
  other: "--cat-5",
};

/** Draw the outline into a path. */
export function trace(path: CanvasPath, kind: Kind, x: number, y: number, radius: number): void {
  const corners = CORNERS[kind];
  if (corners === null) {
    path.moveTo(x + radius, y);
    path.arc(x, y, radius, 0, 2 * Math.PI);
    return;
  }
  corners.forEach(([dx, dy], i) => {
    if (i === 0) path.moveTo(x + dx * radius, y + dy * radius);
    else path.lineTo(x + dx * radius, y + dy * radius);
  });
  path.closePath();
}

/** The outline as the data of an SVG path. */
export function outline(kind: Kind, x: number, y: number, radius: number): string {
  const corners = CORNERS[kind];
  const at = (value: number) => String(Number(value.toFixed(2)));
  if (corners === null) {
    const r = at(radius);
    return `M${at(x - radius)} ${at(y)}a${r} ${r} 0 1 0 ${at(2 * radius)} 0a${r} ${r} 0 1 0 ${at(-2 * radius)} 0Z`;
  }
  const points = corners.map(([dx, dy]) => `${at(x + dx * radius)} ${at(y + dy * radius)}`);
  return `M${points.join("L")}Z`;
}

function polygon(sides: number, from: number, radius: number): Point[] {
  return Array.from({ length: sides }, (_, i): Point => {
    const angle = ((from + (i * 360) / sides) * Math.PI) / 180;
    return [Math.cos(angle) * radius, Math.sin(angle) * radius];
  });
}
