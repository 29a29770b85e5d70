import { expect, test } from "vitest";

import { ago, bytes, duration, figure, percent, shortId } from "./format";

test("figures are short, and minus is a minus", () => {
  expect([0, 0.12345, 1234.5, -2.5, 0.00001234, 12_345_678].map((value) => figure(value))).toEqual([
    "0",
    "0.123",
    "1230",
    "−2.5",
    "1.23e−5",
    "1.23e+7",
  ]);
  expect(percent(-0.0123, 1)).toBe("−1.2 %");
});

test("times are as long as they must be", () => {
  expect([0.25, 4.2, 59, 250, 7500, 400_000].map(duration)).toEqual([
    "250 ms",
    "4.2 s",
    "59 s",
    "4 min 10 s",
    "2 h 5 min",
    "4 days",
  ]);
  const now = Date.parse("2026-01-01T12:00:00Z");
  expect(ago("2026-01-01T11:58:00Z", now)).toBe("2 min ago");
  expect(ago("2026-01-02T12:00:00Z", now)).toBe("in 24 h");
});

test("sizes and ids keep what tells them apart", () => {
  expect([999, 1500, 250_000, 3_000_000_000].map(bytes)).toEqual(["999 B", "1.5 kB", "250 kB", "3.0 GB"]);
  expect(shortId("cx_01J9Z3W8Q5C2M7N4R6T8V0X1Y3")).toBe("cx_…8V0X1Y3");
  expect(shortId("damp")).toBe("damp");
});
