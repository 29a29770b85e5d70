import { edge, must, type Schema } from "@/api/client";

/** What a run is asked for. It is kept in this browser, so that a run can be gone on with. */
export interface RunSettings {
  /** Hub id or built-in model; empty for the installation's own. */
  model: string;
  /** Layers whose residual stream is traced and explained. */
  layers: number[];
  riskClass: string;
  /** How much is done. */
  size: SizeName;
  /** Pairs of one's own, risky and harmless; none take the packaged attacks and their twins. */
  pairs: { risky: string; harmless: string }[];
  /** A policy that is there, such as `damp@1`; empty to fit one to the circuit. */
  policy: string;
  /** How a risky answer begins, and how a harmless one does; none take what fits the class. */
  toward: string[];
  against: string[];
}

export type SizeName = keyof typeof SIZES;

interface Size {
  label: string;
  trace: number;
  dictionary: { d_sae: number; k: number; tokens: number; card_tokens: number };
  search: Schema["SearchSpec"];
  /** Prompts that a policy is fitted to, of each sort; absent for all there are. */
  fit?: number;
  evaluation: Schema["EvalSpec"];
}

export const SIZES = {
  small: {
    label: "Small: a look at every step",
    trace: 64,
    dictionary: { d_sae: 256, k: 8, tokens: 16_000, card_tokens: 4_000 },
    search: { pairs: 16, held_out: 8, measured_components: 6, measured_features: 4 },
    fit: 48,
    evaluation: { limit: 12, comparison_prompts: 4, max_new_tokens: 24 },
  },
  demonstration: {
    label: "Demonstration: as mechctl demo does it",
    trace: 400,
    dictionary: { d_sae: 2048, k: 32, tokens: 120_000, card_tokens: 12_000 },
    search: { pairs: 56, held_out: 20, measured_components: 12, measured_features: 6 },
    evaluation: { comparison_prompts: 16 },
  },
} satisfies Record<string, Size>;

/** What was made so far, by step. */
export type Made = Partial<Record<StepName, string>>;
export type StepName = "trace" | "dictionary" | "circuit" | "policy" | "evaluation" | "report";

export interface Step {
  name: StepName;
  title: string;
  what: string;
  /** What is there already, so that nothing has to be made. */
  given?: (settings: RunSettings) => string | null;
  /** Submit it; gives the job. The same key gives the same job. */
  submit: (settings: RunSettings, made: Made, key: string) => Promise<Schema["JobDocument"]>;
}

const PACKAGED = { uri: "package:jailbreak", split: "train" } as const;

/** The steps, in order; each reads what those before it made. */
export const STEPS: readonly Step[] = [
  {
    name: "trace",
    title: "Trace",
    what: "what the model computes on risky and harmless prompts",
    submit: async (settings, _, key) => {
      const { trace } = SIZES[settings.size];
      const own = settings.pairs.flatMap(({ risky, harmless }) => [risky, harmless]);
      const body = {
        ...model(settings),
        ...(own.length > 0 ? { prompts: own } : { prompts_from: { ...PACKAGED, limit: trace } }),
        spec: { sites: sites(settings) },
      };
      return accepted(must(await edge.POST("/traces", { ...once(key), body })));
    },
  },
  {
    name: "dictionary",
    title: "Dictionary",
    what: "sparse features at these layers",
    submit: async (settings, made, key) => {
      const spec = { sites: sites(settings), kind: "batch_topk", ...SIZES[settings.size].dictionary } as const;
      const body = { ...model(settings), trace: made.trace, spec };
      return accepted(must(await edge.POST("/dictionaries", { ...once(key), body })));
    },
  },
  {
    name: "circuit",
    title: "Circuit",
    what: "which heads, MLPs and features tell a risky prompt from its harmless twin",
    submit: async (settings, made, key) => {
      const own = settings.pairs.map(({ risky, harmless }) => ({ text: risky, twin: harmless }));
      const body = {
        ...model(settings),
        class: settings.riskClass,
        ...(own.length > 0 ? { prompts: own } : { prompts_from: PACKAGED }),
        dictionary: made.dictionary,
        ...(settings.toward.length > 0 && {
          behaviour: { openings: { toward: settings.toward, against: settings.against } },
        }),
        spec: SIZES[settings.size].search,
      };
      return accepted(must(await edge.POST("/analyze", { ...once(key), body })));
    },
  },
  {
    name: "policy",
    title: "Policy",
    what: "when to act and what to hold, fitted on training prompts",
    given: ({ policy }) => policy || null,
    submit: async (settings, made, key) => {
      const size: Size = SIZES[settings.size];
      const body = {
        ...model(settings),
        circuit: made.circuit,
        dictionary: made.dictionary,
        ...(size.fit !== undefined && { data: fitting(size.fit) }),
        spec: { target_class: settings.riskClass },
      };
      return accepted(must(await edge.POST("/policies/propose", { ...once(key), body })));
    },
  },
  {
    name: "evaluation",
    title: "Evaluation",
    what: "on topics and wrappers that fitting never saw",
    submit: async (settings, made, key) => {
      const body = {
        ...model(settings),
        policy: made.policy,
        only: [],
        circuit: made.circuit,
        dictionary: made.dictionary,
        spec: SIZES[settings.size].evaluation,
      };
      return accepted(must(await edge.POST("/eval", { ...once(key), body })));
    },
  },
  {
    name: "report",
    title: "Report",
    what: "an audit PDF with lineage and the privacy principles",
    submit: async (_, made, key) =>
      accepted(must(await edge.POST("/report", { ...once(key), body: { risk_card: made.evaluation } }))),
  },
];

function fitting(limit: number) {
  const of = (uri: string, split: "train" | "validation") => ({ uri, split, limit });
  return {
    train_risky: of("package:jailbreak", "train"),
    train_harmless: of("package:benign_instructions", "train"),
    validation_risky: of("package:jailbreak", "validation"),
    validation_harmless: of("package:benign_instructions", "validation"),
  };
}

function once(key: string) {
  return { params: { header: { "idempotency-key": key } } };
}

function model({ model }: RunSettings) {
  return model === "" ? {} : { model };
}

function sites({ layers }: RunSettings): string[] {
  return layers.map((layer) => `resid_post.${layer}`);
}

function accepted(answer: unknown): Schema["JobDocument"] {
  const job = answer as Partial<Schema["JobDocument"]>;
  if (typeof job.id !== "string") throw new Error("the platform did not say which job it is");
  return answer as Schema["JobDocument"];
}

/** Pairs as one writes them: a line each, risky and harmless with a tab or `=>` between.
 *
 * @throws Error naming the line that is no pair.
 */
export function readPairs(text: string): RunSettings["pairs"] {
  return text
    .split("\n")
    .map((line, at) => [line.trim(), at + 1] as const)
    .filter(([line]) => line !== "")
    .map(([line, number]) => {
      const [risky, harmless, more] = line.split(/\t|=>/).map((part) => part.trim());
      if (!risky || !harmless || more !== undefined) {
        throw new Error(`Line ${number} is no pair: write risky => harmless.`);
      }
      return { risky, harmless };
    });
}

/** Openings of answers as one writes them: `Sure, Of course`. */
export function readOpenings(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** Layers as one writes them: `14, 18`.
 *
 * @throws Error when that is no list of layers.
 */
export function readLayers(text: string): number[] {
  const parts = text.split(/[\s,]+/).filter((part) => part !== "");
  if (parts.length === 0 || parts.length > 8 || !parts.every((part) => /^\d{1,3}$/.test(part))) {
    throw new Error("Give one to eight layers, such as 14, 18.");
  }
  return [...new Set(parts.map(Number))];
}
