import type { Page } from "@playwright/test";

import { bigGraph } from "../perf/bigGraph.mjs";
import { expect, expectAccessible, facts, test } from "./stack";

test.beforeEach(({ signIn }) => signIn("operator"));

/** Imports a made-up graph through the page, and is left looking at it. */
async function importGraph(page: Page, seed: number): Promise<void> {
  await page.goto("/circuits");
  await page.getByRole("button", { name: "Import a graph" }).click();
  await page.getByLabel("choose one").setInputFiles({
    name: "graph.json",
    mimeType: "application/json",
    buffer: Buffer.from(JSON.stringify(bigGraph({ nodes: 200, links: 900, seed }))),
  });
  await expect(page).toHaveURL(/\/circuits\/view\?id=cx_/);
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("made-up-200-nodes");
}

test("a graph is imported, explored, and its view is in the address", async ({ page }) => {
  await importGraph(page, 11);
  await expect(page.getByText("no model was run here")).toBeVisible();
  const graph = page.getByRole("application", { name: "Circuit graph" });
  await graph.focus();
  await page.keyboard.press("Home");
  await expect(page.getByRole("button", { name: "Pin" })).toBeVisible();
  const chosen = await page.getByRole("tabpanel").getByRole("heading", { level: 2 }).first().textContent();
  await page.keyboard.press("p");
  await expect(page.getByRole("button", { name: "Unpin" })).toBeVisible();
  await page.getByLabel("Nodes", { exact: true }).fill("300");
  await expect(page).toHaveURL(/[?&]n=0\.\d+/);
  await expect(page).toHaveURL(/[?&]sel=/);
  await page.reload();
  await expect(page.getByRole("tabpanel").getByRole("heading", { level: 2 }).first()).toHaveText(chosen ?? "");
  await expect(page.getByRole("button", { name: "Unpin" })).toBeVisible();
});

test("supernodes are saved for everybody", async ({ page }) => {
  await importGraph(page, 12);
  const graph = page.getByRole("application", { name: "Circuit graph" });
  await graph.focus();
  for (const key of ["Home", "p", "ArrowUp", "p"]) await page.keyboard.press(key);
  await page.getByRole("tab", { name: "Supernodes" }).click();
  await page.getByRole("button", { name: "Group the 2 pinned nodes" }).click();
  await page.getByRole("dialog").getByRole("textbox", { name: "Name" }).fill("say a city");
  await page.getByRole("button", { name: "Group", exact: true }).click();
  await page.getByRole("button", { name: "Save pins and supernodes" }).click();
  await expect(page.getByText("Saved for everybody").first()).toBeVisible();
  await page.goto(page.url().replace(/&.*/, ""));
  await page.getByRole("tab", { name: /Supernodes 1/ }).click();
  await expect(page.getByText("say a city").first()).toBeVisible();
  await page.getByRole("button", { name: "Fold" }).click();
  await expect(page).toHaveURL(/fold=say/);
});

test("what is no graph is refused with the place that is wrong", async ({ page }) => {
  await page.goto("/circuits");
  await page.getByRole("button", { name: "Import a graph" }).click();
  await page.getByLabel("choose one").setInputFiles({
    name: "graph.json",
    mimeType: "application/json",
    buffer: Buffer.from('{"metadata": {"scan": "m", "prompt_tokens": []}, "nodes": [], "links": []}'),
  });
  await expect(page.getByRole("alert")).toContainText("nodes");
});

test("a circuit that was found shows what was measured, and what a smaller one keeps", async ({ page }) => {
  await page.goto(`/circuits/view?id=${facts.made.circuits[0]}`);
  await expect(page.getByText("Faithfulness", { exact: true })).toBeVisible();
  const readout = page.getByRole("group", { name: "Faithfulness of what is shown" });
  await expect(readout).toContainText("measured on held-out pairs");
  await page.getByLabel("Nodes", { exact: true }).fill("0");
  await expect(readout).toContainText("No head or MLP is kept");
  await page.getByLabel("Nodes", { exact: true }).fill("1");
  await expect(readout).toContainText("1 of");
});

test("two circuits are compared", async ({ page }) => {
  const [base, other] = facts.made.circuits;
  await page.goto("/circuits");
  for (const id of [base, other]) {
    await page.getByRole("checkbox", { name: new RegExp(id.slice(-7)) }).check();
  }
  await page.getByRole("link", { name: "Compare the two" }).click();
  await expect(page.getByText("Jaccard of heads and MLPs")).toBeVisible();
  await expect(page.getByRole("region", { name: "Units of either circuit" })).toBeVisible();
});

test("a viewer sees and writes nothing", async ({ page, signIn }) => {
  await signIn("viewer");
  await page.goto("/circuits");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("Circuits");
  await expect(page.getByRole("button", { name: "Import a graph" })).toHaveCount(0);
});

test("the pages are accessible and ask no other origin", async ({ page, complaints }) => {
  const [base, other] = facts.made.circuits;
  await page.goto(`/circuits/view?id=${base}`);
  for (const tab of ["About", "Node", "Supernodes", "Table"]) {
    await page.getByRole("tab", { name: tab, exact: true }).click();
    await expectAccessible(page);
  }
  await page.goto("/circuits");
  await expect(page.getByRole("region", { name: "Circuits" })).toBeVisible();
  await expectAccessible(page);
  await page.goto(`/circuits/compare?base=${base}&other=${other}`);
  await expect(page.getByText("Jaccard of heads and MLPs")).toBeVisible();
  await expectAccessible(page);
  expect(complaints).toEqual([]);
});
