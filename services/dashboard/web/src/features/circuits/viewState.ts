/** The state of the view, as the address holds it. */

import { KINDS, type Kind } from "./graph";

export type Panel = "node" | "about" | "groups" | "table";

export interface ViewState {
  /** Share of strength that is kept, 0 to 1. */
  nodeShare: number;
  edgeShare: number;
  hidden: readonly Kind[];
  pinned: readonly string[];
  onlyPinned: boolean;
  selected: string | null;
  /** Names of supernodes that are drawn as one node. */
  collapsed: readonly string[];
  panel: Panel;
  /** Scale and offset of the drawing; null fits it into the window. */
  zoom: { k: number; x: number; y: number } | null;
}

export const START: ViewState = {
  nodeShare: 1,
  edgeShare: 1,
  hidden: [],
  pinned: [],
  onlyPinned: false,
  selected: null,
  collapsed: [],
  panel: "about",
  zoom: null,
};

const PANELS: readonly Panel[] = ["node", "about", "groups", "table"];

/** The state that an address holds; what it does not say is as at the start. */
export function readView(query: URLSearchParams, start: ViewState = START): ViewState {
  const hidden = query.getAll("hide").filter((kind): kind is Kind => KINDS.includes(kind as Kind));
  const panel = query.get("panel") as Panel | null;
  return {
    nodeShare: share(query.get("n"), start.nodeShare),
    edgeShare: share(query.get("e"), start.edgeShare),
    hidden: query.has("hide") ? hidden : start.hidden,
    pinned: query.has("pin") ? query.getAll("pin").filter(Boolean) : start.pinned,
    onlyPinned: query.get("only") === "pinned",
    selected: query.get("sel"),
    collapsed: query.getAll("fold"),
    panel: panel !== null && PANELS.includes(panel) ? panel : start.panel,
    zoom: zoom(query.get("at")),
  };
}

/** What an address says of a state; what is as at the start is left out. */
export function writeView(
  state: ViewState,
  start: ViewState = START,
): Record<string, string | readonly string[] | null> {
  const pinsDiffer = state.pinned.join("\n") !== start.pinned.join("\n");
  return {
    n: state.nodeShare === start.nodeShare ? null : rounded(state.nodeShare, 4),
    e: state.edgeShare === start.edgeShare ? null : rounded(state.edgeShare, 4),
    hide: state.hidden,
    pin: pinsDiffer ? (state.pinned.length > 0 ? state.pinned : [""]) : null,
    only: state.onlyPinned ? "pinned" : null,
    sel: state.selected,
    fold: state.collapsed,
    panel: state.panel === start.panel ? null : state.panel,
    at:
      state.zoom === null
        ? null
        : `${rounded(state.zoom.k, 3)},${rounded(state.zoom.x, 0)},${rounded(state.zoom.y, 0)}`,
  };
}

function share(text: string | null, otherwise: number): number {
  if (text === null || text.trim() === "") return otherwise;
  const value = Number(text);
  return Number.isFinite(value) ? Math.min(1, Math.max(0, value)) : otherwise;
}

function zoom(text: string | null): ViewState["zoom"] {
  const [k, x, y, ...more] = (text ?? "").split(",").map((part) => (part === "" ? NaN : Number(part)));
  if (k === undefined || x === undefined || y === undefined || more.length > 0) return null;
  return [k, x, y].every(Number.isFinite) && k > 0 ? { k, x, y } : null;
}

function rounded(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}
