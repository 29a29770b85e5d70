import { at, edgesOf, type Graph } from "./graph";
import styles from "./GraphView.module.css";
import type { Layout } from "./layout";
import { addEdge, type View } from "./paint";
import type { Shown } from "./prune";
import { HOLLOW, KIND_COLOURS, outline } from "./shapes";

interface OverlayProps {
  graph: Graph;
  layout: Layout;
  shown: Shown;
  view: View;
  size: { width: number; height: number };
  selected: number | null;
  hovered: number | null;
  pinned: ReadonlySet<string>;
  outlines: readonly { name: string; nodes: readonly string[] }[];
  labelOf: (node: number) => string;
  radius: (node: number) => number;
}

/** A node's own edges that are drawn, at most, in each direction. */
const MOST = 40;
const NAMED = 7;

/** What is chosen or under the pointer: its edges, what they lead to, pins, and groups. */
export function Overlay(props: OverlayProps) {
  const { graph, layout, shown, view, selected, hovered, pinned, outlines, labelOf, radius } = props;
  const place = (node: number) =>
    [at(layout.x, node) * view.k + view.x, at(layout.y, node) * view.k + view.y] as const;
  const focus = hovered ?? selected;
  const edges = focus === null ? [] : focusEdges(graph, shown, focus);
  const largest = edges.reduce((most, edge) => Math.max(most, Math.abs(at(graph.weights, edge))), 0);
  const ends = [
    ...new Set(edges.map((edge) => otherEnd(graph, edge, focus ?? -1))),
  ];
  const named = new Set([...ends.slice(0, NAMED), ...(focus === null ? [] : [focus])]);
  if (selected !== null) named.add(selected);
  return (
    <svg className={styles.over} aria-hidden>
      {outlines.map(({ name, nodes }) => (
        <Hull key={name} name={name} places={placesOf(graph, shown, nodes).map(place)} />
      ))}
      {edges.map((edge) => {
        const weight = at(graph.weights, edge);
        const share = Math.sqrt(Math.abs(weight) / (largest || 1));
        return (
          <path
            key={edge}
            className={`${styles.edge ?? ""} ${(weight < 0 ? styles.negative : styles.positive) ?? ""}`}
            d={curve(layout, view, at(graph.sources, edge), at(graph.targets, edge), weight < 0)}
            strokeWidth={0.8 + 3.6 * share}
            strokeOpacity={0.35 + 0.6 * share}
          />
        );
      })}
      {[...ends, ...(focus === null ? [] : [focus]), ...(selected === null ? [] : [selected])].map(
        (node, i) => (
          <Node key={`${node}-${i}`} graph={graph} node={node} place={place(node)} radius={radius(node)} />
        ),
      )}
      {[...pinned].map((id) => {
        const node = graph.index.get(id);
        if (node === undefined || !at(shown.nodes, node)) return null;
        const [x, y] = place(node);
        return (
          <g key={id}>
            <Node graph={graph} node={node} place={[x, y]} radius={radius(node)} />
            <circle className={styles.pin} cx={x} cy={y} r={radius(node) + 4} />
          </g>
        );
      })}
      {selected !== null && (
        <circle
          className={styles.ring}
          cx={place(selected)[0]}
          cy={place(selected)[1]}
          r={radius(selected) + 5}
        />
      )}
      {[...named].map((node) => {
        const [x, y] = place(node);
        const right = x > props.size.width - 170;
        return (
          <text
            key={node}
            className={node === focus ? `${styles.name ?? ""} ${styles.strong ?? ""}` : styles.name}
            x={right ? x - radius(node) - 6 : x + radius(node) + 6}
            y={y}
            textAnchor={right ? "end" : "start"}
            dominantBaseline="central"
          >
            {labelOf(node)}
          </text>
        );
      })}
    </svg>
  );
}

/** The shown edges of a node, strongest first; a node's own edges are there below the threshold too. */
function focusEdges(graph: Graph, shown: Shown, node: number): number[] {
  const pick = (edges: Uint32Array, ends: Uint32Array) => {
    const found: number[] = [];
    for (const edge of edges) {
      if (found.length === MOST) break;
      if (at(shown.nodes, at(ends, edge))) found.push(edge);
    }
    return found;
  };
  const both = [
    ...pick(edgesOf(graph.incoming, node), graph.sources),
    ...pick(edgesOf(graph.outgoing, node), graph.targets),
  ];
  return both.sort((a, b) => Math.abs(at(graph.weights, b)) - Math.abs(at(graph.weights, a)));
}

function otherEnd(graph: Graph, edge: number, node: number): number {
  const source = at(graph.sources, edge);
  return source === node ? at(graph.targets, edge) : source;
}

function curve(
  layout: Layout,
  view: View,
  source: number,
  target: number,
  lowers: boolean,
): string {
  const parts: string[] = [];
  const say = (letter: string, ...numbers: number[]) =>
    parts.push(letter + numbers.map((one) => one.toFixed(1)).join(" "));
  const path = {
    moveTo: (x: number, y: number) => say("M", x, y),
    bezierCurveTo: (...numbers: number[]) => say("C", ...numbers),
  };
  addEdge(path as unknown as CanvasPath, layout, view, source, target, lowers);
  return parts.join("");
}

interface NodeProps {
  graph: Graph;
  node: number;
  place: readonly [number, number];
  radius: number;
}

function Node({ graph, node, place: [x, y], radius }: NodeProps) {
  const { kind } = at(graph.nodes, node);
  const colour = `var(${KIND_COLOURS[kind]})`;
  const hollow = HOLLOW.has(kind);
  return (
    <path
      className={hollow ? styles.hollow : styles.node}
      d={outline(kind, x, y, radius)}
      {...(hollow ? { stroke: colour } : { fill: colour })}
    />
  );
}

function placesOf(graph: Graph, shown: Shown, ids: readonly string[]): number[] {
  return ids.flatMap((id) => {
    const node = graph.index.get(id);
    return node !== undefined && at(shown.nodes, node) ? [node] : [];
  });
}

function Hull({ name, places }: { name: string; places: readonly (readonly [number, number])[] }) {
  if (places.length === 0) return null;
  const xs = places.map(([x]) => x);
  const ys = places.map(([, y]) => y);
  const [left, top] = [Math.min(...xs) - 13, Math.min(...ys) - 13];
  return (
    <g>
      <rect
        className={styles.hull}
        x={left}
        y={top}
        width={Math.max(...xs) + 13 - left}
        height={Math.max(...ys) + 13 - top}
        rx={10}
      />
      <text className={styles.hullName} x={left + 6} y={top - 5}>
        {name}
      </text>
    </g>
  );
}
