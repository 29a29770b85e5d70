import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";

import { reaches, WIN_LINE } from "./figures";
import { History } from "./History";

test("each figure is held against its limit from the right side", () => {
  const met = Object.fromEntries(WIN_LINE.map((wanted) => [wanted.short, [0.04, 0.55, 15].map((v) => reaches(wanted, v))]));
  expect(met).toEqual({
    DE: [false, true, true],
    CD: [true, false, false],
    CS: [false, false, true],
    LCO: [true, true, true],
  });
});

test("a history says in words how often the limit was met, and begins with two cards", () => {
  const [wanted] = WIN_LINE;
  if (wanted === undefined) throw new Error("no figure");
  const points = [0.2, 0.6, 0.7].map((value, at) => ({ id: String(at), at: "2026-01-01T00:00:00Z", value }));
  const { rerender, container } = render(<History points={points} wanted={wanted} />);
  expect(screen.getByRole("img", { name: /over 3 cards: met by 2/ })).toBeInTheDocument();
  rerender(<History points={points.slice(0, 1)} wanted={wanted} />);
  expect(container).toBeEmptyDOMElement();
});
