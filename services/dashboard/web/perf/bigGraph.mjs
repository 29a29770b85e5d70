/** An attribution graph of a wanted size, always the same one: tokens, features by layer, errors, outputs. */

const WORDS = "Fact : the capital of the state containing Dallas is".split(" ");

/**
 * @param {{ nodes: number, links: number, layers?: number, seed?: number }} size
 */
export function bigGraph({ nodes, links, layers = 26, seed = 1 }) {
  const random = generator(seed);
  const tokens = WORDS.map((word, i) => (i === 0 ? word : ` ${word}`));
  const made = tokens.map((token, i) => node(`E_${i}_${i}`, "E", i, "embedding", { clerp: `Emb: "${token}"` }));
  const outputs = [" Austin", " Houston", " Texas"].map((token, i) =>
    node(`${layers + 1}_${i}_${tokens.length - 1}`, String(layers + 1), tokens.length - 1, "logit", {
      clerp: `Output "${token}" (p=${[0.62, 0.11, 0.05][i]})`,
      token_prob: [0.62, 0.11, 0.05][i],
      is_target_logit: i === 0,
    }),
  );
  const between = nodes - made.length - outputs.length;
  for (let i = 0; i < between; i++) {
    const layer = Math.floor(random() * layers);
    // Late tokens have more features, as they have more to attend to.
    const token = Math.min(tokens.length - 1, Math.floor(tokens.length * Math.sqrt(random())));
    const error = random() < 0.08;
    made.push(
      node(
        error ? `0_${layer}_${token}_${i}` : `${layer}_${1000 + i}_${token}`,
        String(layer),
        token,
        error ? "mlp reconstruction error" : "cross layer transcoder",
        { feature: error ? -1 : 1000 + i, activation: error ? null : 1 + 9 * random() },
      ),
    );
  }
  made.push(...outputs);
  const height = ({ layer }) => (layer === "E" ? -1 : Number(layer));
  const seen = new Set();
  const found = [];
  while (found.length < links) {
    let a = made[Math.floor(random() * made.length)];
    let b = made[Math.floor(random() * made.length)];
    if (height(a) > height(b)) [a, b] = [b, a];
    if (height(a) >= height(b) || a.ctx_idx > b.ctx_idx || b.feature_type.includes("error")) continue;
    const key = `${a.node_id} ${b.node_id}`;
    if (seen.has(key)) continue;
    seen.add(key);
    // Few links are strong, and some lower what they lead to.
    const weight = Math.exp(3 * gaussian(random) * 0.6 - 2) * (random() < 0.3 ? -1 : 1);
    found.push({ source: a.node_id, target: b.node_id, weight: Number(weight.toFixed(5)) });
  }
  return {
    metadata: {
      slug: `made-up-${nodes}-nodes`,
      scan: "gemma-2-2b",
      prompt: tokens.join(""),
      prompt_tokens: tokens,
      info: { generator: { name: "bigGraph" }, description: "Made up, to measure the page with." },
    },
    qParams: { pinnedIds: [], supernodes: [], linkType: "both", clickedId: "", sg_pos: "" },
    nodes: made,
    links: found,
  };
}

function node(id, layer, token, type, more) {
  return {
    node_id: id,
    feature: 0,
    layer,
    ctx_idx: token,
    feature_type: type,
    jsNodeId: id,
    clerp: "",
    influence: null,
    activation: null,
    token_prob: 0,
    is_target_logit: false,
    ...more,
  };
}

function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function gaussian(random) {
  return Math.sqrt(-2 * Math.log(random() || 1e-9)) * Math.cos(2 * Math.PI * random());
}
