/** A Risk Card as the engine writes it, as far as it is shown (see `risk_card.schema.json`). */

import { figure, percent } from "@/ui/format";

/** A figure; without ends where too few topics bear an interval. */
export interface Estimate {
  value: number;
  low?: number;
  high?: number;
  n: number;
  clusters?: number | null;
}

export interface Pair {
  baseline: Estimate;
  steered: Estimate;
  change: Estimate;
}

export interface SuiteResult {
  name: string;
  dataset: string;
  prompts_sha256: string;
  n: number;
  metrics: Record<string, Pair>;
  by_category: Record<string, Record<string, Pair>>;
  by_wrapper: Record<string, Record<string, Pair>>;
}

export interface Criterion {
  name: string;
  source: "win line" | "policy";
  sense: "at least" | "at most";
  limit: number;
  value: Estimate | null;
  passed: boolean;
  supported: boolean;
}

export interface Arm {
  description: string;
  attack_success_rate: Estimate | null;
  defense_efficacy: Estimate | null;
  collateral_damage: Estimate | null;
  over_refusal_rate: Estimate | null;
  degeneration_rate: Estimate | null;
}

export interface Judge {
  name: string;
  question: string;
  method: string;
  limits: string;
  measured: { data: string; licence: string; note: string; figures: Record<string, Estimate> }[];
}

export interface RiskCard {
  model: { name: string; fingerprint: string };
  policy: {
    id: string;
    description: string;
    target_class: string;
    sha256: string;
    condition: boolean;
    interventions: string[];
  };
  suites: SuiteResult[];
  defense_efficacy: Estimate | null;
  collateral_damage: Estimate | null;
  damages: Record<string, Estimate>;
  circuit_stability: Estimate | null;
  firing_rate: Record<string, Estimate>;
  latency: {
    benign_overhead_pct: Estimate | null;
    attack_overhead_pct: Estimate | null;
    baseline_seconds: Estimate | null;
    steered_seconds: Estimate | null;
    tokens: number;
  } | null;
  cost: {
    currency: string;
    price_per_hour: number;
    baseline_per_1k: Estimate;
    steered_per_1k: Estimate;
  } | null;
  arms: Record<string, Arm>;
  judges: Judge[];
  win_line: Criterion[];
  notes: string[];
  seed: number;
}

const TITLES: Record<string, string> = {
  defense_efficacy: "Defense efficacy",
  collateral_damage: "Collateral damage",
  circuit_stability: "Circuit stability",
  latency_overhead_pct: "Latency overhead",
  degeneration_rise: "Degeneration",
  attack_success_rate: "attacks that succeed",
  refusal_rate: "answers that refuse",
  over_refusal_rate: "refused though harmless",
  toxicity_rate: "toxic answers",
  exact_match: "right answers",
  bleu: "BLEU",
  perplexity: "perplexity",
  logprob_accuracy: "right continuation likeliest",
  kl_to_base: "divergence from the bare model",
  degeneration_rate: "degenerate answers",
};

/** Whether less of a metric is better. */
const LESS = new Set([
  "attack_success_rate",
  "over_refusal_rate",
  "toxicity_rate",
  "degeneration_rate",
  "perplexity",
  "kl_to_base",
  "collateral_damage",
  "latency_overhead_pct",
]);

const SHARES = new Set([
  "defense_efficacy",
  "collateral_damage",
  "degeneration_rise",
  "attack_success_rate",
  "refusal_rate",
  "over_refusal_rate",
  "toxicity_rate",
  "exact_match",
  "logprob_accuracy",
  "degeneration_rate",
]);

export function title(name: string): string {
  return TITLES[name] ?? name.replaceAll("_", " ");
}

export function lessIsBetter(name: string): boolean {
  return LESS.has(name);
}

/** How a figure is written: shares and overheads in percent, as the engine's own page does. */
export function writer(name: string): (value: number) => string {
  if (SHARES.has(name)) return (value) => percent(value, 1);
  if (name.endsWith("_pct")) return (value) => percent(value / 100, 1);
  return figure;
}

export function interval({ low, high }: Estimate): [number, number] | null {
  return low === undefined || high === undefined ? null : [low, high];
}

/** In words, whether a criterion is met, and whether its whole interval is on the right side. */
export function verdict(criterion: Criterion): { tone: "good" | "warn" | "bad"; words: string } {
  if (criterion.value === null) return { tone: "bad", words: "not measured" };
  if (!criterion.passed) return { tone: "bad", words: "missed" };
  return criterion.supported
    ? { tone: "good", words: "met" }
    : { tone: "warn", words: "met, in doubt" };
}

/** A row of the before-and-after chart. */
export interface BarRow {
  key: string;
  label: string;
  name: string;
  pair: Pair;
}

export type Grouping = "all" | "category" | "wrapper";

/** The rows of a suite: its metrics over all prompts, or one metric by group. */
export function barRows(suite: SuiteResult, grouping: Grouping, metric: string): BarRow[] {
  if (grouping === "all") {
    return Object.entries(suite.metrics).map(([name, pair]) => ({
      key: name,
      label: title(name),
      name,
      pair,
    }));
  }
  const groups = grouping === "category" ? suite.by_category : suite.by_wrapper;
  return Object.entries(groups).flatMap(([group, metrics]) => {
    const pair = metrics[metric];
    return pair === undefined ? [] : [{ key: group, label: group, name: metric, pair }];
  });
}

/** From 0 to what all rows need; shares always go to 1, so that charts can be compared. */
export function domain(rows: readonly BarRow[]): [number, number] {
  if (rows.every(({ name }) => SHARES.has(name) || name === "bleu")) return [0, 1];
  const ends = rows.flatMap(({ pair }) => [pair.baseline, pair.steered].map((one) => one.high ?? one.value));
  return [0, Math.max(1e-9, ...ends) * 1.05];
}

/** Whether the interval of a change leaves out 0: less, more, or not told apart. */
export function direction({ low, high }: Estimate): "less" | "more" | "unclear" {
  if (low === undefined || high === undefined) return "unclear";
  return high < 0 ? "less" : low > 0 ? "more" : "unclear";
}
