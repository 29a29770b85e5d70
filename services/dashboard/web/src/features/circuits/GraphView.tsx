"use client";

import { select, zoom as d3zoom, zoomIdentity, zoomTransform, type ZoomBehavior } from "d3";
import {
  useCallback,
  useEffect,
  useId,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  type KeyboardEvent,
  type PointerEvent,
} from "react";

import { resolveColours, useTheme } from "@/ui/colours";

import { Axes } from "./Axes";
import { describe } from "./describe";
import { at, type Graph } from "./graph";
import styles from "./GraphView.module.css";
import { nodeAt, nodeTree } from "./hit";
import type { Layout } from "./layout";
import { Overlay } from "./Overlay";
import { paint, PALETTE_TOKENS, paletteOf, radiusOf, type Palette, type View } from "./paint";
import type { Shown } from "./prune";
import { walk, type Step } from "./walk";

interface GraphViewProps {
  graph: Graph;
  layout: Layout;
  shown: Shown;
  selected: number | null;
  pinned: ReadonlySet<string>;
  /** Outlines of what people grouped, that are not drawn as one node. */
  outlines: readonly { name: string; nodes: readonly string[] }[];
  zoom: View | null;
  labelOf: (node: number) => string;
  onZoom: (view: View | null) => void;
  onSelect: (node: number | null) => void;
  onPin: (node: number) => void;
}

const MARGIN = { left: 50, top: 22, right: 56, bottom: 46 };
const REACH = 14;
const STEPS: Record<string, Step> = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
  Home: "first",
  End: "last",
};

/** The drawing: a canvas for everything, and above it what is chosen, for pointers and for keyboards. */
export function GraphView(props: GraphViewProps) {
  const { graph, layout, shown, selected, pinned, zoom, labelOf, onZoom, onSelect, onPin } = props;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const behaviour = useRef<ZoomBehavior<HTMLDivElement, unknown>>(undefined);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [hovered, setHovered] = useState<number | null>(null);
  const help = useId();
  const theme = useTheme();

  const fitted = useMemo(() => fit(layout, size), [layout, size]);
  const [view, setView] = useState<View | null>(zoom);
  const [moving, setMoving] = useState(false);
  const present = view ?? fitted;
  const presentRef = useRef(present);
  const save = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    const watch = new ResizeObserver(([entry]) => {
      if (entry === undefined) return;
      setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    watch.observe(element);
    return () => watch.disconnect();
  }, []);

  // Pan and zoom are d3's, which knows wheels, touches and their quirks.
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const made = d3zoom<HTMLDivElement, unknown>()
      .scaleExtent([0.05, 12])
      .filter((event: MouseEvent) => !event.button && event.type !== "dblclick")
      .clickDistance(4)
      .on("zoom", ({ transform, sourceEvent }: { transform: View; sourceEvent: unknown }) => {
        if (sourceEvent === null) return;
        const next = { k: transform.k, x: transform.x, y: transform.y };
        setView(next);
        setMoving(true);
        clearTimeout(save.current);
        save.current = setTimeout(() => {
          setMoving(false);
          onZoom(next);
        }, 160);
      });
    behaviour.current = made;
    select(element).call(made).on("dblclick.zoom", null);
    return () => {
      select(element).on(".zoom", null);
    };
  }, [onZoom]);

  const moveTo = useCallback(
    (next: View | null) => {
      setView(next);
      onZoom(next);
    },
    [onZoom],
  );

  // d3 goes on from where the drawing stands, also when it was moved by a key or fitted.
  useEffect(() => {
    presentRef.current = present;
    const element = box.current;
    if (element === null || behaviour.current === undefined) return;
    const { k, x, y } = present;
    const known = zoomTransform(element);
    if (known.k === k && known.x === x && known.y === y) return;
    behaviour.current.transform(select(element), zoomIdentity.translate(x, y).scale(k));
  }, [present]);

  const palette = useMemo(() => paletteIn(theme), [theme]);

  useLayoutEffect(() => {
    const element = canvas.current;
    if (element === null || size.width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)];
    if (element.width !== width || element.height !== height) {
      element.width = width;
      element.height = height;
    }
    const context = element.getContext("2d");
    if (context === null) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint(context, { graph, layout, shown, view: present, palette, moving, ...size });
    context.setTransform(1, 0, 0, 1, 0, 0);
  }, [graph, layout, shown, present, size, palette, moving]);

  const tree = useMemo(() => nodeTree(layout, shown.nodes), [layout, shown.nodes]);
  const find = (event: PointerEvent | React.MouseEvent): number | null => {
    const { left, top } = event.currentTarget.getBoundingClientRect();
    const { k, x, y } = presentRef.current;
    return nodeAt(tree, (event.clientX - left - x) / k, (event.clientY - top - y) / k, REACH / k);
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    let step = STEPS[event.key];
    if (event.shiftKey && step === "up") step = "rowUp";
    if (event.shiftKey && step === "down") step = "rowDown";
    if (step !== undefined) {
      const next = walk(graph, layout, shown, selected, step);
      if (next !== null) {
        onSelect(next);
        bringIntoView(next);
      }
    } else if (event.key === "p" && selected !== null) onPin(selected);
    else if (event.key === "Escape") onSelect(null);
    else if (event.key === "+" || event.key === "=") scaleBy(1.3);
    else if (event.key === "-") scaleBy(1 / 1.3);
    else if (event.key === "0") moveTo(null);
    else return;
    event.preventDefault();
  };

  const scaleBy = (factor: number) => {
    const { k, x, y } = presentRef.current;
    const scale = Math.min(12, Math.max(0.05, k * factor));
    const middle = selected === null ? null : placeOf(selected);
    const [cx, cy] = middle ?? [size.width / 2, size.height / 2];
    moveTo({ k: scale, x: cx - ((cx - x) / k) * scale, y: cy - ((cy - y) / k) * scale });
  };
  const placeOf = (node: number): [number, number] => {
    const { k, x, y } = presentRef.current;
    return [at(layout.x, node) * k + x, at(layout.y, node) * k + y];
  };
  const bringIntoView = (node: number) => {
    const { k, x, y } = presentRef.current;
    const [px, py] = placeOf(node);
    const dx = outside(px, MARGIN.left + 20, size.width - MARGIN.right - 20);
    const dy = outside(py, MARGIN.top + 20, size.height - MARGIN.bottom - 20);
    if (dx !== 0 || dy !== 0) moveTo({ k, x: x - dx, y: y - dy });
  };

  return (
    <div className={styles.frame}>
      {/* The drawing takes pointers and arrow keys; all of it is said aloud below, and stands in the table. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions */}
      <div
        ref={box}
        className={styles.box}
        role="application"
        aria-label="Circuit graph"
        aria-describedby={help}
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        tabIndex={0}
        data-over={hovered === null ? undefined : ""}
        onKeyDown={onKeyDown}
        onPointerMove={(event) => {
          if (event.buttons === 0) setHovered(find(event));
        }}
        onPointerLeave={() => setHovered(null)}
        onClick={(event) => onSelect(find(event))}
        onDoubleClick={(event) => {
          const node = find(event);
          if (node !== null) onPin(node);
        }}
      >
        <canvas
          ref={canvas}
          className={styles.canvas}
          data-dimmed={selected !== null || hovered !== null ? "" : undefined}
        />
        {size.width > 0 && (
          <Overlay
            {...props}
            view={present}
            size={size}
            hovered={hovered}
            radius={(node) => radiusOf(graph, node, present.k)}
          />
        )}
        {size.width > 0 && <Axes layout={layout} view={present} size={size} form={graph.form} />}
      </div>
      <p id={help} className="visually-hidden">
        Arrow keys left and right walk along a layer, up and down along the strongest edge; with Shift to the
        next layer. Home is the strongest node, P pins, Escape lets go, plus and minus zoom, 0 fits.
      </p>
      <p className="visually-hidden" aria-live="polite">
        {selected === null ? "" : describe(graph, shown, selected, labelOf(selected))}
      </p>
      <div className={styles.zoom}>
        <button type="button" onClick={() => scaleBy(1.3)} aria-label="Zoom in">
          +
        </button>
        <button type="button" onClick={() => scaleBy(1 / 1.3)} aria-label="Zoom out">
          −
        </button>
        <button type="button" onClick={() => moveTo(null)} aria-label="Fit into the window">
          ⤢
        </button>
      </div>
      {pinned.size === 0 && selected === null && (
        <p className={styles.hint} aria-hidden>
          Click a node for its card, double-click to pin, arrow keys to walk
        </p>
      )}
    </div>
  );
}

/** What the tokens come to in a theme, which the document is in. */
function paletteIn(theme: "light" | "dark"): Palette {
  return { ...paletteOf(resolveColours(PALETTE_TOKENS)), theme };
}

function outside(value: number, low: number, high: number): number {
  return value < low ? value - low : value > high ? value - high : 0;
}

/** The whole drawing in the window. */
function fit(layout: Layout, { width, height }: { width: number; height: number }): View {
  const [inner, tall] = [
    Math.max(50, width - MARGIN.left - MARGIN.right),
    Math.max(50, height - MARGIN.top - MARGIN.bottom),
  ];
  const k = Math.min(2.6, inner / layout.width, tall / layout.height);
  return {
    k,
    x: MARGIN.left + (inner - layout.width * k) / 2,
    y: MARGIN.top + (tall - layout.height * k) / 2,
  };
}
