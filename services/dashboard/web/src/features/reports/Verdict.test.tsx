import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";

import { Verdict } from "./Verdict";

const ABC = new TextEncoder().encode("abc").buffer;
const SHA_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2

function show(expected: string) {
  render(
    <QueryClientProvider client={new QueryClient()}>
      <Verdict content={ABC} expected={expected} />
    </QueryClientProvider>,
  );
}

test("bytes that are those of the manifest are verified", async () => {
  show(SHA_OF_ABC);
  expect(await screen.findByText("verified")).toBeVisible();
});

test("other bytes are said to be altered, and both hashes are shown", async () => {
  show("0".repeat(64));
  expect(await screen.findByText("altered")).toBeVisible();
  expect(screen.getByText(SHA_OF_ABC)).toBeVisible();
  expect(screen.getByText(/Do not rely on this copy/)).toBeVisible();
});
