/** Small graphs for tests. */

import type { AttributionFile } from "../attributionGraph";
import type { CircuitFile } from "../circuit";

const figure = (value: number) => ({ value, low: value - 0.1, high: value + 0.1, n: 20 });

export const CIRCUIT: CircuitFile = {
  risk_class: "jailbreak",
  behaviour: "refusing",
  n_layers: 4,
  effect: figure(2),
  units: [
    { unit: "layer0.mlp", attribution: 0.5, ccs: figure(0.6) },
    { unit: "layer2.attn.h1", attribution: -0.3, ccs: figure(-0.2) },
    { unit: "layer1.attn.h0", attribution: 0.2, ccs: null },
    { unit: "layer2.f7", attribution: 0.3, ccs: figure(0.1) },
    { unit: "layer2.f9", attribution: 0.1, ccs: figure(0.05) },
    { unit: "layer2.error", attribution: 0.1, ccs: figure(0.02) },
  ],
  edges: [
    { source: "layer0.mlp", target: "layer2.attn.h1", score: 0.2 },
    { source: "layer0.mlp", target: "output", score: -0.6 },
    { source: "layer2.attn.h1", target: "output", score: 0.15 },
    { source: "layer9.mlp", target: "output", score: 0.15 },
  ],
  faithfulness: figure(0.9),
  completeness: figure(0.8),
  minimality: figure(1),
  stability: figure(0.7),
  split_half: figure(0.6),
  feature_effect: { "2": figure(0.1) },
  calibration: { spearman: 0.9, n: 5 },
  pairs: 20,
  dropped: 0,
  components: 12,
  faithfulness_curve: [
    { units: 1, weakest: 0.5, kept: figure(0.4) },
    { units: 3, weakest: 0.2, kept: figure(0.9) },
  ],
};

const node = (id: string, layer: string, token: number, type: string, more = {}) => ({
  node_id: id,
  layer,
  ctx_idx: token,
  feature_type: type,
  clerp: "",
  ...more,
});

export const FILE: AttributionFile = {
  metadata: { slug: "dallas", scan: "gemma-2-2b", prompt: "The state", prompt_tokens: ["The", " state"] },
  nodes: [
    node("E_1_0", "E", 0, "embedding"),
    node("E_2_1", "E", 1, "embedding"),
    node("0_11_1", "0", 1, "cross layer transcoder", { activation: 2 }),
    node("3_12_1", "3", 1, "cross layer transcoder", { clerp: "say a city" }),
    node("0_3_1", "3", 1, "mlp reconstruction error"),
    node("5_9_1", "5", 1, "logit", { token_prob: 0.8, clerp: 'Output "Austin" (p=0.8)', is_target_logit: true }),
  ],
  links: [
    { source: "E_2_1", target: "0_11_1", weight: 2 },
    { source: "0_11_1", target: "3_12_1", weight: 3 },
    { source: "E_1_0", target: "3_12_1", weight: -1 },
    { source: "3_12_1", target: "5_9_1", weight: 3 },
    { source: "0_3_1", target: "5_9_1", weight: 1 },
    { source: "gone", target: "5_9_1", weight: 9 },
  ],
};
