"use client";

import { useQueries } from "@tanstack/react-query";
import { useMemo } from "react";

import { api, edge, must, type Schema } from "@/api/client";

import { attributionGraph, suggestedShare, type AttributionFile } from "./attributionGraph";
import { circuitGraph, type CircuitFile } from "./circuit";
import { at, type Graph } from "./graph";

export type Artifact = Schema["ArtifactDocument"];
export type FeatureSummary = Schema["FeatureSummary"];

/** A circuit, read. */
export interface Circuit {
  artifact: Artifact;
  graph: Graph;
  /** What was measured; null in imported graphs. */
  found: CircuitFile | null;
  /** The file; null in circuits that were found here. */
  imported: AttributionFile | null;
  /** The node share that the file wants to be looked at with. */
  suggested: number;
}

/** A circuit with its graph; what cannot be read is an error of the query. */
export function useCircuit(id: string) {
  return api.useQuery(
    "get",
    "/circuit/{artifact_id}",
    { params: { path: { artifact_id: id } } },
    { select: readCircuit, staleTime: Infinity, enabled: id !== "" },
  );
}

/** What the edge answers, as a graph. */
export function readCircuit(document: Schema["CircuitDocument"]): Circuit {
  const { artifact } = document;
  if (document.form === "attribution_graph") {
    const file = document.graph as unknown as AttributionFile;
    const graph = attributionGraph(file);
    return { artifact, graph, found: null, imported: file, suggested: suggestedShare(file) };
  }
  const file = document.graph as unknown as CircuitFile;
  return { artifact, graph: circuitGraph(file), found: file, imported: null, suggested: 1 };
}

/** Where the features of a circuit are described. */
export interface FeaturePlace {
  dictionary: string;
  site: string;
  index: number;
}

export interface Features {
  /** By the unit's name, what is known of a feature in a line. */
  summaries: ReadonlyMap<string, FeatureSummary>;
  placeOf: (unit: string) => FeaturePlace | null;
}

/** What is known of the features of a circuit that was found here. */
export function useFeatures(id: string, graph: Graph | undefined): Features {
  const own = graph?.form === "contrast" ? graph : undefined;
  const wanted = useMemo(() => featuresByLayer(own), [own]);
  const source = api.useQuery(
    "get",
    "/circuit/{artifact_id}/dictionary",
    { params: { path: { artifact_id: id } } },
    { staleTime: Infinity, enabled: wanted.size > 0 },
  );
  const dictionary = source.data?.dictionary ?? null;
  const sites = source.data?.sites;
  const layers = dictionary === null ? [] : [...wanted.keys()];
  const pages = useQueries({
    queries: layers.map((layer) => ({
      queryKey: ["features", dictionary, layer, wanted.get(layer)],
      staleTime: Infinity,
      queryFn: async () => {
        const site = siteOf(layer, sites ?? []);
        const path = { dictionary_id: dictionary ?? "", site };
        const query = { only: wanted.get(layer) ?? [] };
        const answer = await edge.GET("/dictionaries/{dictionary_id}/features/{site}", {
          params: { path, query },
        });
        return { layer, items: must(answer).items };
      },
    })),
    combine: (results) => results.flatMap(({ data }) => (data === undefined ? [] : [data])),
  });
  return useMemo(() => {
    const summaries = new Map<string, FeatureSummary>();
    for (const { layer, items } of pages) {
      for (const item of items) summaries.set(`layer${layer}.f${item.index}`, item);
    }
    const placeOf = (unit: string): FeaturePlace | null => {
      const node = own?.index.get(unit);
      const feature = node === undefined || own === undefined ? null : at(own.nodes, node).feature;
      if (feature === null || dictionary === null) return null;
      return { dictionary, site: siteOf(feature.layer, sites ?? []), index: feature.index };
    };
    return { summaries, placeOf };
  }, [pages, own, dictionary, sites]);
}

function featuresByLayer(graph: Graph | undefined): Map<number, number[]> {
  const found = new Map<number, number[]>();
  for (const { feature } of graph?.nodes ?? []) {
    if (feature === null) continue;
    found.set(feature.layer, [...(found.get(feature.layer) ?? []), feature.index]);
  }
  return found;
}

/** A circuit's features are readings of the stream at the end of a layer. */
function siteOf(layer: number, sites: readonly string[]): string {
  return sites.find((site) => site === `resid_post.${layer}`) ?? `resid_post.${layer}`;
}
