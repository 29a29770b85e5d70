import { describe, expect, it } from "vitest";

import { attributionGraph } from "./attributionGraph";
import { circuitGraph, parseUnit } from "./circuit";
import { moved } from "./CircuitPage";
import { fromSlider, toSlider } from "./Controls";
import { toJson } from "./exportGraph";
import { readFaithfulness } from "./faithfulness";
import { at, cumulativeShares, edgesOf, type Graph } from "./graph";
import { collapse, groupId } from "./groups";
import { nodeAt, nodesWithin, nodeTree } from "./hit";
import { graphScores, influences } from "./influence";
import { layOut } from "./layout";
import { prune, strongestEdges, type Pruning } from "./prune";
import { CIRCUIT, FILE } from "./testing/samples";
import { readView, START, writeView, type ViewState } from "./viewState";
import { walk } from "./walk";

const ALL: Pruning = {
  nodeShare: 1,
  edgeShare: 1,
  hidden: new Set(),
  pinned: new Set(),
  onlyPinned: false,
};
const circuit = circuitGraph(CIRCUIT);
const imported = attributionGraph(FILE);

function names(graph: Graph, shown: Uint8Array): string[] {
  return graph.nodes.filter((_, i) => shown[i]).map(({ id }) => id);
}

function place(graph: Graph, id: string): number {
  const found = graph.index.get(id);
  if (found === undefined) throw new Error(id);
  return found;
}

describe("a circuit as a graph", () => {
  it("reads units by their names", () => {
    expect(parseUnit("layer9.attn.h4")).toEqual({ kind: "head", layer: 9, index: 4 });
    expect(parseUnit("layer3.mlp")).toEqual({ kind: "mlp", layer: 3, index: 0 });
    expect(parseUnit("layer12.f47")).toEqual({ kind: "feature", layer: 12, index: 47 });
    expect(parseUnit("output")).toBeNull();
  });

  it("has the output above all layers, and no edge to what is not there", () => {
    expect(circuit.rows.at(-1)).toBe("out");
    expect(at(circuit.nodes, place(circuit, "output")).row).toBe(4);
    expect(circuit.weights.length).toBe(3);
  });

  it("counts shares among heads and MLPs, and among features, apart", () => {
    const share = (id: string) => at(circuit.nodes, place(circuit, id)).share;
    expect(share("layer0.mlp")).toBeCloseTo(0.5);
    expect(share("layer2.attn.h1")).toBeCloseTo(0.8);
    expect(share("layer1.attn.h0")).toBeCloseTo(1);
    expect(share("layer2.f7")).toBeCloseTo(0.6);
    expect(share("output")).toBe(0);
  });

  it("gives a node's edges strongest first", () => {
    const incoming = edgesOf(circuit.incoming, place(circuit, "output"));
    expect(Array.from(incoming, (edge) => at(circuit.weights, edge))).toEqual([
      expect.closeTo(-0.6),
      expect.closeTo(0.15),
    ]);
  });
});

describe("an imported graph", () => {
  it("has tokens below, layers between and outputs above", () => {
    expect(imported.rows).toEqual(["in", "0", "1", "2", "3", "out"]);
    expect(imported.columns.map(({ label }) => label)).toEqual(["The", "·state"]);
    expect(at(imported.nodes, place(imported, "5_9_1"))).toMatchObject({ row: 5, name: "Austin", probability: 0.8 });
    expect(at(imported.nodes, place(imported, "3_12_1"))).toMatchObject({ name: "say a city", kind: "feature" });
    expect(at(imported.nodes, place(imported, "0_3_1")).kind).toBe("error");
  });

  it("leaves links out that lead nowhere", () => {
    expect(imported.weights.length).toBe(5);
  });

  it("states the influence that flows back from the outputs", () => {
    const strength = (id: string) => at(imported.nodes, place(imported, id)).strength;
    expect(strength("3_12_1")).toBeCloseTo(0.8 * 0.75);
    expect(strength("0_3_1")).toBeCloseTo(0.8 * 0.25);
    expect(strength("0_11_1")).toBeCloseTo(0.8 * 0.75 * 0.75);
    expect(strength("E_1_0")).toBeCloseTo(0.8 * 0.75 * 0.25);
  });

  it("takes the file's own influence where it has one", () => {
    const nodes = FILE.nodes.map((node) =>
      node.layer === "E" || node.feature_type === "logit" ? node : { ...node, influence: 0.33 },
    );
    const graph = attributionGraph({ ...FILE, nodes });
    expect(at(graph.nodes, place(graph, "0_11_1")).share).toBeCloseTo(0.33);
  });

  it("has the scores of circuit-tracer", () => {
    const shown = prune(imported, ALL);
    const { replacement, completeness } = graphScores(imported, shown.nodes, shown.edges);
    // A quarter of the output's input is an error's; the rest comes from tokens.
    expect(replacement).toBeCloseTo(0.75);
    const [output, city, first] = [1, 0.75, 0.75 * 0.75];
    expect(completeness).toBeCloseTo((output * 0.75 + city + first) / (output + city + first));
  });
});

describe("influence", () => {
  it("adds up over paths", () => {
    const edges = [
      { source: 0, target: 1, weight: 1 },
      { source: 0, target: 2, weight: 1 },
      { source: 1, target: 3, weight: 1 },
      { source: 2, target: 3, weight: -3 },
    ];
    expect(Array.from(influences(4, edges, [0, 0, 0, 1], [0, 1, 1, 2]))).toEqual([1, 0.25, 0.75, 1]);
  });
});

describe("pruning", () => {
  it("keeps the strongest that hold a share of the strength", () => {
    expect(names(circuit, prune(circuit, { ...ALL, nodeShare: 0.8 }).nodes)).toEqual([
      "layer0.mlp",
      "layer2.attn.h1",
      "layer2.f7",
      "layer2.f9",
      "output",
    ]);
    const least = prune(circuit, { ...ALL, nodeShare: 0.01 });
    expect(names(circuit, least.nodes)).toEqual(["layer0.mlp", "layer2.f7", "output"]);
    expect([least.components, least.allComponents]).toEqual([1, 3]);
  });

  it("shows what is pinned whatever its strength, and counts it for no figure", () => {
    const shown = prune(circuit, { ...ALL, nodeShare: 0.1, pinned: new Set(["layer1.attn.h0"]) });
    expect(names(circuit, shown.nodes)).toContain("layer1.attn.h0");
    expect(shown.components).toBe(1);
  });

  it("hides kinds, and edges with their ends", () => {
    const shown = prune(circuit, { ...ALL, hidden: new Set(["mlp"] as const) });
    expect(names(circuit, shown.nodes)).not.toContain("layer0.mlp");
    expect(shown.edgeCount).toBe(1);
  });

  it("keeps the strongest edges", () => {
    const shown = prune(circuit, { ...ALL, edgeShare: 0.7 });
    expect(shown.edgeCount).toBe(1);
    expect(at(circuit.weights, shown.edges.indexOf(1))).toBeCloseTo(-0.6);
    expect(Array.from(strongestEdges(circuit, prune(circuit, ALL), 1))).toEqual([1]);
  });

  it("shows what is pinned with its neighbours alone", () => {
    const pruning = { ...ALL, pinned: new Set(["layer2.attn.h1"]), onlyPinned: true };
    expect(names(circuit, prune(circuit, pruning).nodes).sort()).toEqual([
      "layer0.mlp",
      "layer2.attn.h1",
      "output",
    ]);
  });

  it("shares sum to one, the largest first", () => {
    expect(cumulativeShares([1, 3])).toEqual([1, 0.75]);
    expect(cumulativeShares([0, 0])).toEqual([0, 0]);
  });
});

describe("faithfulness", () => {
  it("is the measured one where so many units were measured", () => {
    expect(readFaithfulness(CIRCUIT, 1, 3)).toMatchObject({ kind: "measured", kept: { value: 0.4 } });
    expect(readFaithfulness(CIRCUIT, 3, 3)).toMatchObject({ kind: "measured", kept: { value: 0.9 } });
  });

  it("is never made up between", () => {
    expect(readFaithfulness(CIRCUIT, 2, 3)).toMatchObject({
      kind: "between",
      below: { units: 1 },
      above: { units: 3 },
    });
    const older = { ...CIRCUIT, faithfulness_curve: undefined };
    expect(readFaithfulness(older, 2, 3)).toMatchObject({ kind: "whole", units: 3 });
    expect(readFaithfulness(CIRCUIT, 0, 3)).toEqual({ kind: "none" });
  });
});

describe("layout", () => {
  const layout = layOut(imported);

  it("puts higher layers above lower ones and later tokens to the right", () => {
    const y = (id: string) => at(layout.y, place(imported, id));
    const x = (id: string) => at(layout.x, place(imported, id));
    expect(y("5_9_1")).toBeLessThan(y("3_12_1"));
    expect(y("3_12_1")).toBeLessThan(y("0_11_1"));
    expect(x("E_1_0")).toBeLessThan(x("E_2_1"));
  });

  it("lets no two nodes stand in one place", () => {
    const crowd = attributionGraph({
      ...FILE,
      nodes: [
        ...FILE.nodes,
        ...Array.from({ length: 50 }, (_, i) => ({
          node_id: `0_${100 + i}_1`,
          layer: "0",
          ctx_idx: 1,
          feature_type: "cross layer transcoder",
        })),
      ],
    });
    const { x, y, columns } = layOut(crowd);
    const places = new Set(crowd.nodes.map((_, i) => `${at(x, i)} ${at(y, i)}`));
    expect(places.size).toBe(crowd.nodes.length);
    crowd.nodes.forEach(({ column }, i) => {
      const { left, width } = at(columns, column);
      expect(at(x, i)).toBeGreaterThan(left);
      expect(at(x, i)).toBeLessThan(left + width);
    });
  });
});

describe("hit-testing", () => {
  const layout = layOut(circuit);
  const shown = prune(circuit, { ...ALL, nodeShare: 0.5 });
  const tree = nodeTree(layout, shown.nodes);
  const mlp = place(circuit, "layer0.mlp");

  it("finds the node under the pointer, within reach", () => {
    const [x, y] = [at(layout.x, mlp), at(layout.y, mlp)];
    expect(nodeAt(tree, x + 3, y - 2, 6)).toBe(mlp);
    expect(nodeAt(tree, x + 300, y, 6)).toBeNull();
  });

  it("does not find what is not shown", () => {
    const hidden = place(circuit, "layer1.attn.h0");
    expect(nodeAt(tree, at(layout.x, hidden), at(layout.y, hidden), 2)).toBeNull();
  });

  it("finds the nodes within a rectangle", () => {
    const all = nodesWithin(tree, layout, [0, 0, layout.width, layout.height]);
    expect(all.length).toBe(shown.nodeCount);
    const [x, y] = [at(layout.x, mlp), at(layout.y, mlp)];
    expect(nodesWithin(tree, layout, [x - 1, y - 1, x + 1, y + 1])).toEqual([mlp]);
  });
});

describe("walking", () => {
  const layout = layOut(circuit);
  const shown = prune(circuit, ALL);
  const step = (from: string | null, way: Parameters<typeof walk>[4]) => {
    const found = walk(circuit, layout, shown, from === null ? null : place(circuit, from), way);
    return found === null ? null : at(circuit.nodes, found).id;
  };

  it("begins at the strongest node", () => {
    expect(step(null, "left")).toBe("layer0.mlp");
  });

  it("goes up and down along the strongest edge", () => {
    expect(step("layer0.mlp", "up")).toBe("output");
    expect(step("output", "down")).toBe("layer0.mlp");
    expect(step("layer1.attn.h0", "up")).toBeNull();
  });

  it("goes along a layer in reading order, and back", () => {
    expect(step("layer2.attn.h1", "right")).toBe("layer2.f7");
    expect(step("layer2.f7", "left")).toBe("layer2.attn.h1");
    expect(step("layer2.error", "right")).toBeNull();
  });

  it("goes to the next layer, whether or not an edge does", () => {
    expect(step("layer1.attn.h0", "rowUp")).toBe("layer2.attn.h1");
    expect(step("layer1.attn.h0", "rowDown")).toBe("layer0.mlp");
  });
});

describe("supernodes", () => {
  it("are one node, with the edges of their members added up", () => {
    const graph = collapse(circuit, [{ name: "early", nodes: ["layer0.mlp", "layer2.attn.h1"] }]);
    expect(graph.nodes.length).toBe(circuit.nodes.length - 1);
    const group = at(graph.nodes, place(graph, groupId("early")));
    expect(group).toMatchObject({ kind: "group", strength: expect.closeTo(0.8) as number });
    expect(group.members).toEqual(["layer0.mlp", "layer2.attn.h1"]);
    const out = edgesOf(graph.outgoing, place(graph, groupId("early")));
    expect(Array.from(out, (edge) => at(graph.weights, edge))).toEqual([expect.closeTo(-0.45)]);
  });

  it("that hold nothing of the graph are left out", () => {
    expect(collapse(circuit, [{ name: "x", nodes: ["nothing"] }]).nodes.length).toBe(circuit.nodes.length);
  });

  it("hold a node once", () => {
    const groups = [{ name: "a", nodes: ["1", "2"] }];
    expect(moved(groups, "2", "b")).toEqual([
      { name: "a", nodes: ["1"] },
      { name: "b", nodes: ["2"] },
    ]);
    expect(moved([{ name: "a", nodes: ["1"] }], "1", "")).toEqual([]);
  });
});

describe("the address", () => {
  const state: ViewState = {
    nodeShare: 0.83,
    edgeShare: 0.5,
    hidden: ["error", "mlp"],
    pinned: ["layer0.mlp", "layer2.f7"],
    onlyPinned: true,
    selected: "layer2.attn.h1",
    collapsed: ["a b"],
    panel: "table",
    zoom: { k: 1.5, x: -20, y: 33 },
  };
  const round = (given: ViewState, start = START) => {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(writeView(given, start))) {
      if (Array.isArray(value)) for (const one of value as string[]) query.append(name, one);
      else if (typeof value === "string") query.set(name, value);
    }
    return readView(query, start);
  };

  it("holds the whole state", () => {
    expect(round(state)).toEqual(state);
    expect(round(START)).toEqual(START);
  });

  it("holds that pins were taken away which others saved", () => {
    const start = { ...START, pinned: ["layer0.mlp"] };
    expect(round({ ...start, pinned: [] }, start).pinned).toEqual([]);
    expect(round(start, start).pinned).toEqual(["layer0.mlp"]);
  });

  it("is read with care", () => {
    const odd = new URLSearchParams("n=9&e=x&hide=nothing&panel=zzz&at=1,2&sel=");
    expect(readView(odd)).toEqual({ ...START, selected: "" });
    expect(readView(new URLSearchParams("n=-1")).nodeShare).toBe(0);
  });

  it("and the sliders agree", () => {
    for (const share of [0, 0.3, 0.8, 0.97, 1]) expect(fromSlider(toSlider(share))).toBeCloseTo(share, 3);
  });
});

describe("export", () => {
  it("is an attribution graph that can be imported again", () => {
    const shown = prune(imported, ALL);
    const layout = layOut(imported);
    const picture = { graph: imported, layout, shown, title: "dallas", palette: {} as never };
    const text = toJson(picture, { scan: "gemma-2-2b", prompt: "The state" }, ["3_12_1", "gone"], []);
    const again = attributionGraph(JSON.parse(text) as typeof FILE);
    expect(again.nodes.map(({ id, kind, row }) => [id, kind, row])).toEqual(
      imported.nodes.map(({ id, kind, row }) => [id, kind, row]),
    );
    expect(Array.from(again.weights)).toEqual(Array.from(imported.weights));
    expect((JSON.parse(text) as { qParams: { pinnedIds: string[] } }).qParams.pinnedIds).toEqual(["3_12_1"]);
  });
});
