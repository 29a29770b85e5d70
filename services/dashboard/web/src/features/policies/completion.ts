import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";

/** As much of JSON Schema as policies use. */
export interface JsonSchema {
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
  type?: string;
  description?: string;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  items?: JsonSchema;
  prefixItems?: JsonSchema[];
  enum?: unknown[];
  const?: unknown;
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  default?: unknown;
}

interface Level {
  indent: number;
  key: string | null;
  /** Keys that stand beside it. */
  beside: Map<string, string>;
  item: boolean;
}

/** Where a place stands in the text: the keys above it, and the keys and values beside it. */
export function placeOf(text: string, at: number): { path: string[]; beside: Map<string, string> } {
  const lines = text.slice(0, at).split("\n");
  let open: Level[] = [{ indent: -1, key: null, beside: new Map(), item: false }];
  lines.forEach((line, number) => {
    const current = number === lines.length - 1;
    if (!current && /^\s*(#|$)/.test(line)) return;
    const dash = /^(\s*)-(\s+|$)/.exec(line);
    const indent = dash ? (dash[1] ?? "").length : line.length - line.trimStart().length;
    // An item may stand as far to the left as the key of its list.
    open = open.filter((level) => level.indent < indent || (dash !== null && level.indent === indent && !level.item));
    if (dash) open.push({ indent, key: null, beside: new Map(), item: true });
    if (current) return;
    const inner = dash ? dash[0].length : indent;
    const found = /^([\w-]+)\s*:\s*(.*)$/.exec(line.slice(inner));
    if (!found) return;
    const [, key = "", value = ""] = found;
    last(open).beside.set(key, value);
    if (value === "") open.push({ indent: inner, key, beside: new Map(), item: false });
  });
  const path = open.slice(1).flatMap(({ item, key }) => (item ? ["[]"] : key === null ? [] : [key]));
  return { path, beside: last(open).beside };
}

function last(levels: readonly Level[]): Level {
  const found = levels[levels.length - 1];
  if (found === undefined) throw new Error("there is always the document itself");
  return found;
}

/** The schemas that what stands at a path may fit; a discriminator beside it narrows them down. */
export function schemasAt(
  root: JsonSchema,
  path: readonly string[],
  beside: ReadonlyMap<string, string>,
): JsonSchema[] {
  let found = alternatives(root, root);
  for (const step of path) {
    found = found.flatMap((schema) => {
      const next = step === "[]" ? schema.items : schema.properties?.[step];
      return next === undefined ? [] : alternatives(root, next);
    });
  }
  const type = beside.get("type")?.replace(/["']/g, "");
  const fitting = found.filter((schema) => schema.properties?.type?.const === type);
  return type !== undefined && fitting.length > 0 ? fitting : found;
}

function alternatives(root: JsonSchema, schema: JsonSchema): JsonSchema[] {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split("/").pop() ?? "";
    const target = root.$defs?.[name];
    return target === undefined ? [] : alternatives(root, target);
  }
  const choices = schema.anyOf ?? schema.oneOf;
  return choices === undefined ? [schema] : choices.flatMap((one) => alternatives(root, one));
}

/** Completes keys of a policy, and values where there are few. */
export function completePolicy(schema: JsonSchema | undefined) {
  return (context: CompletionContext): CompletionResult | null => {
    if (schema === undefined) return null;
    const line = context.state.doc.lineAt(context.pos);
    const before = line.text.slice(0, context.pos - line.from);
    const value = /^(\s*(?:-\s+)?)([\w-]+):\s*([\w-]*)$/.exec(before);
    const text = context.state.doc.toString();
    const { path, beside } = placeOf(text, context.pos);
    const here = schemasAt(schema, path, beside);
    if (value) {
      const [, , key = "", typed = ""] = value;
      const options = valuesOf(schema, here, key);
      return options.length === 0 ? null : { from: context.pos - typed.length, options };
    }
    const typed = /^\s*(?:-\s+)?([\w-]*)$/.exec(before);
    if (!typed || (typed[1] === "" && !context.explicit)) return null;
    const options = keysOf(schema, here, beside);
    return options.length === 0 ? null : { from: context.pos - (typed[1] ?? "").length, options };
  };
}

function keysOf(root: JsonSchema, here: readonly JsonSchema[], beside: ReadonlyMap<string, string>): Completion[] {
  const found = new Map<string, Completion>();
  for (const schema of here) {
    for (const [key, own] of Object.entries(schema.properties ?? {})) {
      if (beside.has(key) || found.has(key)) continue;
      const inner = alternatives(root, own)[0];
      const required = schema.required?.includes(key) ?? false;
      found.set(key, {
        label: key,
        type: "property",
        apply: inner?.properties === undefined && inner?.items === undefined ? `${key}: ` : `${key}:`,
        detail: required ? "required" : (inner?.type ?? ""),
        boost: required ? 1 : 0,
        ...(own.description !== undefined && { info: own.description }),
      });
    }
  }
  return [...found.values()];
}

function valuesOf(root: JsonSchema, here: readonly JsonSchema[], key: string): Completion[] {
  const values = here
    .flatMap((schema) => {
      const own = schema.properties?.[key];
      return own === undefined ? [] : alternatives(root, own);
    })
    .flatMap((schema) => (schema.const === undefined ? (schema.enum ?? []) : [schema.const]));
  return [...new Set(values.map(String))].map((label) => ({ label, type: "enum" }));
}
