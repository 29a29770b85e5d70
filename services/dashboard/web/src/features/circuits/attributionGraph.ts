/** Attribution graphs as circuit-tracer and Neuronpedia write them, as a graph: tokens by layers. */

import { influences } from "./influence";
import {
  cumulativeShares,
  makeGraph,
  type Column,
  type Edge,
  type Graph,
  type GraphNode,
  type Kind,
} from "./graph";

interface FileNode {
  node_id: string;
  layer: string | number;
  ctx_idx: number;
  feature_type: string;
  feature?: number | null;
  clerp?: string | null;
  influence?: number | null;
  activation?: number | null;
  token_prob?: number | null;
  is_target_logit?: boolean;
}

/** An attribution graph's file. */
export interface AttributionFile {
  metadata: {
    slug?: string;
    scan?: string | string[];
    prompt?: string;
    prompt_tokens: readonly string[];
    node_threshold?: number | null;
    info?: { description?: string; creator_name?: string; generator?: { name?: string } };
  };
  qParams?: { pinnedIds?: readonly string[]; supernodes?: readonly (readonly string[])[] };
  nodes: readonly FileNode[];
  links: readonly { source: string; target: string; weight: number }[];
}

/** The graph of a file. Links that lead to no node are left out. */
export function attributionGraph(file: AttributionFile): Graph {
  const numbers = file.nodes.filter((node) => kindOf(node) !== "logit").map(layerOf);
  const first = Math.min(...numbers);
  const last = Math.max(...numbers);
  const tokens = file.metadata.prompt_tokens;
  const width = Math.max(tokens.length, ...file.nodes.map(({ ctx_idx }) => ctx_idx + 1));
  const columns: Column[] = Array.from({ length: width }, (_, i) => ({
    label: shownToken(tokens[i] ?? ""),
    group: "",
  }));
  const rows = [
    ...Array.from({ length: last - first + 1 }, (_, i) => (first + i < 0 ? "in" : String(first + i))),
    "out",
  ];
  const index = new Map(file.nodes.map((node, i) => [node.node_id, i]));
  const edges: Edge[] = [];
  for (const { source, target, weight } of file.links) {
    const from = index.get(source);
    const to = index.get(target);
    if (from !== undefined && to !== undefined) edges.push({ source: from, target: to, weight });
  }
  const strengths = strengthsOf(file.nodes, edges);
  const shares = sharesOf(file.nodes, strengths);
  const nodes: GraphNode[] = file.nodes.map((node, i) => {
    const kind = kindOf(node);
    return {
      id: node.node_id,
      kind,
      row: kind === "logit" ? rows.length - 1 : layerOf(node) - first,
      column: node.ctx_idx,
      name: nameOf(node, kind, tokens),
      title: node.clerp ?? "",
      strength: strengths[i] ?? 0,
      share: kind === "logit" || kind === "embedding" ? 0 : (shares[i] ?? 0),
      ccs: null,
      attribution: null,
      activation: node.activation ?? null,
      probability: kind === "logit" ? (node.token_prob ?? null) : null,
      feature: null,
      members: [],
    };
  });
  return makeGraph("attribution_graph", nodes, edges, rows, columns);
}

/** The node share at which the file wants to be looked at, or circuit-tracer's own where there are many. */
export function suggestedShare(file: AttributionFile): number {
  const given = file.metadata.node_threshold;
  if (typeof given === "number" && given > 0 && given <= 1) return given;
  return file.nodes.length > 250 ? 0.8 : 1;
}

/** Influence on the outputs, as circuit-tracer computes it, from the graph's own weights. */
function strengthsOf(nodes: readonly FileNode[], edges: readonly Edge[]): Float64Array {
  return influences(
    nodes.length,
    edges,
    nodes.map((node) => (kindOf(node) === "logit" ? (node.token_prob ?? 0) || 1e-3 : 0)),
    nodes.map((node) => (kindOf(node) === "logit" ? Infinity : layerOf(node))),
  );
}

/** The file's own cumulative influence where every prunable node states it, else that of strengths. */
function sharesOf(nodes: readonly FileNode[], strengths: Float64Array): number[] {
  const prunable = nodes.filter((node) => !["logit", "embedding"].includes(kindOf(node)));
  const given = prunable.every(
    ({ influence }) => typeof influence === "number" && influence >= 0 && influence <= 1 + 1e-6,
  );
  if (given && prunable.length > 0) return nodes.map(({ influence }) => Math.min(influence ?? 0, 1));
  return cumulativeShares(Array.from(strengths));
}

function kindOf({ feature_type: type, layer }: FileNode): Kind {
  const said = type.toLowerCase();
  if (said.includes("error")) return "error";
  if (said === "embedding" || layer === "E") return "embedding";
  if (said === "logit") return "logit";
  if (said === "attention head") return "head";
  if (said === "mlp") return "mlp";
  if (said.includes("transcoder") || said.includes("feature") || said.includes("lorsa")) {
    return "feature";
  }
  return "other";
}

function layerOf({ layer }: FileNode): number {
  if (layer === "E") return -1;
  const number = Number(layer);
  return Number.isFinite(number) ? number : 0;
}

function nameOf(node: FileNode, kind: Kind, tokens: readonly string[]): string {
  const said = node.clerp?.trim();
  if (kind === "embedding") return shownToken(tokens[node.ctx_idx] ?? "") || "token";
  if (kind === "logit") {
    const token = /"([^"]*)"/.exec(said ?? "")?.[1];
    return token === undefined ? said || "output" : shownToken(token);
  }
  if (said) return said;
  return kind === "error" ? "error" : `f${shortFeature(node)}`;
}

/** Some tools number features across layers; the id holds the number within its own. */
function shortFeature({ node_id: id, feature }: FileNode): string {
  const parts = id.split("_");
  return parts.length === 3 ? (parts[1] ?? "") : String(feature ?? "");
}

/** A token with its blanks and line ends visible. */
export function shownToken(token: string): string {
  return token.replaceAll("\n", "⏎").replaceAll("⏎⏎", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "·");
}
