import { CompletionContext } from "@codemirror/autocomplete";
import { EditorState } from "@codemirror/state";
import { expect, test } from "vitest";

import { completePolicy, placeOf, type JsonSchema } from "./completion";

const SCHEMA: JsonSchema = {
  properties: {
    meta: { $ref: "#/$defs/Meta" },
    interventions: {
      items: { oneOf: [{ $ref: "#/$defs/Clamp" }, { $ref: "#/$defs/Scale" }] },
    },
  },
  required: ["meta"],
  $defs: {
    Meta: { properties: { id: { type: "string" }, target_class: { type: "string" } } },
    Selector: { properties: { layer: { type: "integer" }, heads: { items: {} } } },
    Clamp: {
      properties: {
        type: { const: "feature_clamp" },
        selector: { $ref: "#/$defs/Selector" },
        clamp_range: { items: {} },
      },
    },
    Scale: {
      properties: {
        type: { const: "feature_scale" },
        selector: { $ref: "#/$defs/Selector" },
        scale: { type: "number" },
      },
    },
  },
};

/** Labels that are offered at the mark `|`. */
function offered(text: string): string[] {
  const at = text.indexOf("|");
  const state = EditorState.create({ doc: text.replace("|", "") });
  const result = completePolicy(SCHEMA)(new CompletionContext(state, at, true));
  return result?.options.map(({ label }) => label) ?? [];
}

test("keys at the top, without those that are there", () => {
  expect(offered("meta:\n  id: p\n|")).toEqual(["interventions"]);
});

test("keys inside a key", () => {
  expect(offered("meta:\n  id: p\n  |")).toEqual(["target_class"]);
});

test("an item's type decides which keys it has", () => {
  expect(offered("interventions:\n  - type: feature_scale\n    |")).toEqual(["selector", "scale"]);
  expect(offered("interventions:\n  - type: feature_clamp\n    |")).toEqual([
    "selector",
    "clamp_range",
  ]);
});

test("a second item begins anew", () => {
  const text = "interventions:\n  - type: feature_clamp\n    selector:\n      layer: 1\n  - |";
  expect(offered(text)).toEqual(["type", "selector", "clamp_range", "scale"]);
});

test("keys deeper in an item", () => {
  const text = "interventions:\n  - type: feature_clamp\n    selector:\n      layer: 1\n      |";
  expect(offered(text)).toEqual(["heads"]);
});

test("values where there are few", () => {
  expect(offered("interventions:\n  - type: |")).toEqual(["feature_clamp", "feature_scale"]);
});

test("the place is told by the keys above", () => {
  const text = "a:\n  b: 1\n\n  # c:\nd:\n  - e: 1\n    f:\n      ";
  expect(placeOf(text, text.length).path).toEqual(["d", "[]", "f"]);
});
