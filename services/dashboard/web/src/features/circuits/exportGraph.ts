/** The view as a file: a drawing to put on a slide, or a graph that Neuronpedia's page reads. */

import { at, type Graph } from "./graph";
import type { Supernode } from "./groups";
import type { Layout } from "./layout";
import { addEdge, MOST_EDGES, NAME_FONT, paint, placeNames, radiusOf, type Palette, type View } from "./paint";
import { strongestEdges, type Shown } from "./prune";
import { HOLLOW, outline } from "./shapes";

export interface Picture {
  graph: Graph;
  layout: Layout;
  shown: Shown;
  palette: Palette;
  title: string;
}

const PAD = 56;
const SCALE = 1.5;

/** The whole graph, as a drawing of vectors with its axes. */
export function toSvg(picture: Picture): string {
  const { graph, layout, shown, palette, title } = picture;
  const { view, width, height } = frame(layout);
  const drawn = strongestEdges(graph, shown, MOST_EDGES);
  const largest = drawn.reduce((most, edge) => Math.max(most, Math.abs(at(graph.weights, edge))), 1e-12);
  const parts: string[] = [];
  for (const edge of drawn) {
    const weight = at(graph.weights, edge);
    const share = Math.sqrt(Math.abs(weight) / largest);
    const dash = weight < 0 ? ' stroke-dasharray="5 3"' : "";
    parts.push(
      `<path d="${edgeData(layout, view, at(graph.sources, edge), at(graph.targets, edge), weight < 0)}" fill="none" stroke="${weight < 0 ? palette.negative : palette.positive}" stroke-width="${(0.5 + 2.2 * share).toFixed(2)}" stroke-opacity="${(0.12 + 0.6 * share).toFixed(2)}"${dash}/>`,
    );
  }
  graph.nodes.forEach(({ kind, name, title: said, id }, i) => {
    if (!at(shown.nodes, i)) return;
    const [x, y] = [at(layout.x, i) * view.k + view.x, at(layout.y, i) * view.k + view.y];
    const colour = palette.kinds[kind];
    const hollow = HOLLOW.has(kind);
    parts.push(
      `<path d="${outline(kind, x, y, radiusOf(graph, i, view.k))}" fill="${hollow ? palette.surface : colour}" stroke="${hollow ? colour : palette.surface}" stroke-width="1.4"><title>${escaped([id, name, said].filter(Boolean).join(" · "))}</title></path>`,
    );
  });
  const scene = { graph, layout, shown, view, width, height, palette };
  for (const { text, x, y } of placeNames(scene, (name) => name.length * 6)) {
    parts.push(
      `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="11" dominant-baseline="central" fill="${palette.text}" stroke="${palette.surface}" stroke-width="3" paint-order="stroke">${escaped(text)}</text>`,
    );
  }
  for (const { label, y } of layout.rows) {
    parts.push(
      `<text x="8" y="${(y * view.k + view.y).toFixed(1)}" font-size="10" dominant-baseline="central" fill="${palette.faint}">${escaped(label)}</text>`,
    );
  }
  for (const { label, left, width: wide } of layout.columns) {
    parts.push(
      `<text x="${((left + wide / 2) * view.k + view.x).toFixed(1)}" y="${height - 20}" font-size="10" text-anchor="middle" fill="${palette.faint}">${escaped(label)}</text>`,
    );
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${Math.ceil(width)}" height="${Math.ceil(height)}" viewBox="0 0 ${Math.ceil(width)} ${Math.ceil(height)}" font-family="system-ui, sans-serif"><title>${escaped(title)}</title><rect width="100%" height="100%" fill="${palette.surface}"/>${parts.join("")}</svg>`;
}

/** The whole graph as pixels, twice as fine as on the page. */
export async function toPng(picture: Picture): Promise<Blob> {
  const { view, width, height } = frame(picture.layout);
  // Browsers refuse canvases beyond some size.
  const ratio = Math.min(2, 8000 / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * ratio);
  canvas.height = Math.ceil(height * ratio);
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("this browser gives no canvas");
  context.scale(ratio, ratio);
  paint(context, { ...picture, view, width, height });
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = picture.palette.surface;
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.font = NAME_FONT;
  context.fillStyle = picture.palette.faint;
  context.textBaseline = "middle";
  for (const { label, y } of picture.layout.rows) context.fillText(label, 8, y * view.k + view.y);
  context.textAlign = "center";
  for (const { label, left, width: wide } of picture.layout.columns) {
    context.fillText(label, (left + wide / 2) * view.k + view.x, height - 20);
  }
  return await new Promise((resolve, reject) => {
    canvas.toBlob((blob) => {
      if (blob === null) reject(new Error("the picture is too large for this browser"));
      else resolve(blob);
    }, "image/png");
  });
}

/** What is shown, in the schema of attribution graphs, with pins and supernodes. */
export function toJson(
  { graph, shown, title }: Picture,
  { scan, prompt }: { scan: string; prompt: string },
  pinned: readonly string[],
  groups: readonly Supernode[],
): string {
  const nodes = graph.nodes.flatMap((node, i) =>
    at(shown.nodes, i)
      ? [
          {
            node_id: node.id,
            feature: node.feature?.index ?? -1,
            layer: layerName(graph, node.row),
            ctx_idx: graph.form === "contrast" ? 0 : node.column,
            feature_type: TYPES[node.kind],
            jsNodeId: node.id,
            clerp: node.title || node.name,
            influence: node.share,
            activation: node.ccs?.value ?? node.activation ?? node.attribution,
            token_prob: node.probability ?? 0,
            is_target_logit: node.kind === "logit",
            run_idx: 0,
            reverse_ctx_idx: 0,
          },
        ]
      : [],
  );
  const links: { source: string; target: string; weight: number }[] = [];
  shown.edges.forEach((one, i) => {
    if (!one) return;
    const [source, target] = [at(graph.nodes, at(graph.sources, i)), at(graph.nodes, at(graph.targets, i))];
    links.push({ source: source.id, target: target.id, weight: at(graph.weights, i) });
  });
  const present = new Set(nodes.map(({ node_id: id }) => id));
  const tokens = graph.form === "contrast" ? [title] : graph.columns.map(({ label }) => label);
  return JSON.stringify({
    metadata: {
      slug: title,
      scan,
      transcoder_list: [],
      prompt_tokens: tokens,
      prompt,
      node_threshold: null,
      schema_version: 1,
    },
    qParams: {
      pinnedIds: pinned.filter((id) => present.has(id)),
      supernodes: groups.map(({ name, nodes: ids }) => [name, ...ids.filter((id) => present.has(id))]),
      linkType: "both",
      clickedId: "",
      sg_pos: "",
    },
    nodes,
    links,
  });
}

const TYPES = {
  head: "attention head",
  mlp: "mlp",
  feature: "sae feature",
  error: "mlp reconstruction error",
  logit: "logit",
  embedding: "embedding",
  group: "supernode",
  other: "other",
} as const;

/** The layer as the schema writes it: tokens are `E`, and outputs are above all layers. */
function layerName({ rows }: Graph, row: number): string {
  const label = at(rows, row);
  if (/^\d+$/.test(label)) return label;
  return row === 0 ? "E" : String(Number(at(rows, rows.length - 2)) + 1);
}

/** Hand a file to the reader. */
export function download(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function frame(layout: Layout): { view: View; width: number; height: number } {
  const k = Math.max(SCALE, Math.min(3, 900 / layout.width));
  return {
    view: { k, x: PAD, y: 16 },
    width: layout.width * k + PAD + 24,
    height: layout.height * k + 56,
  };
}

function edgeData(
  layout: Layout,
  view: View,
  source: number,
  target: number,
  lowers: boolean,
): string {
  let data = "";
  const path = {
    moveTo: (x: number, y: number) => (data += `M${x.toFixed(1)} ${y.toFixed(1)}`),
    bezierCurveTo: (...numbers: number[]) => (data += `C${numbers.map((n) => n.toFixed(1)).join(" ")}`),
  };
  addEdge(path as unknown as CanvasPath, layout, view, source, target, lowers);
  return data;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
