import { expect, test } from "vitest";

import { byLayer, difference } from "./difference";

const tokens = (text: string) => Array.from(text, (letter) => ({ id: letter.charCodeAt(0) }));

test("what both answers share stays, in order", () => {
  const found = difference(tokens("abcde"), tokens("axcze"));
  expect(found.baseline).toEqual([true, false, true, false, true]);
  expect(found.steered).toEqual([true, false, true, false, true]);
  expect([found.first, found.changed]).toEqual([1, 2]);
});

test("the same answer twice", () => {
  expect(difference(tokens("ab"), tokens("ab"))).toEqual({
    baseline: [true, true],
    steered: [true, true],
    first: null,
    changed: 0,
  });
});

test("an answer that ends sooner differs where it ends", () => {
  expect(difference(tokens("abc"), tokens("ab")).first).toBe(2);
  expect(difference(tokens("ab"), tokens("abc")).first).toBe(2);
});

test("nothing in common", () => {
  expect(difference(tokens("ab"), tokens("xyz"))).toMatchObject({ first: 0, changed: 3 });
});

test("units stand by layer", () => {
  expect(byLayer(["layer18.f471", "layer4.attn.h2", "layer18.f9", "lora.attn"])).toEqual([
    [4, ["attn.h2"]],
    [18, ["f471", "f9"]],
    [null, ["lora.attn"]],
  ]);
});
