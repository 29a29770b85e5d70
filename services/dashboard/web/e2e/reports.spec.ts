import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { expect, facts, test } from "./stack";

test("a report is written with one click, verified, read and downloaded", async ({ page, signIn }) => {
  await signIn("operator");
  await page.goto("/reports");
  await page.getByRole("button", { name: "Write a report" }).click();
  await page.getByLabel("About which Risk Card").selectOption(facts.made.card); // others may be newer
  await page.getByRole("button", { name: "Write it" }).click();
  await expect(page).toHaveURL(/reports\/view\?id=rp_/, { timeout: 60_000 });
  await expect(page.getByText("verified")).toBeVisible();
  const hash = await page.getByTitle(/^[0-9a-f]{64}$/).first().getAttribute("title");
  // The preview has the report's own words, where they can be selected and are read aloud; the
  // title also heads the pages after the first, which may be drawn by now.
  const preview = page.getByRole("region", { name: "Preview of the report" });
  await expect(preview.getByText("Steering of jailbreak: policy damp").first()).toBeAttached();
  const drawn = page.getByRole("region", { name: "Lineage, drawn" });
  await expect(drawn.getByTitle(facts.made.card)).toBeVisible();
  await expect(drawn.getByTitle(facts.made.trace)).toBeVisible();
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "Download" }).click();
  const content = readFileSync(await (await download).path());
  expect(content.subarray(0, 5).toString()).toBe("%PDF-");
  expect(createHash("sha256").update(content).digest("hex")).toBe(hash);
});

test("a copy that was altered on its way is said to be", async ({ page, signIn }) => {
  await signIn("operator");
  await page.route(`**/api/reports/${facts.made.report}.pdf`, async (route) => {
    const answer = await route.fetch();
    const body = await answer.body();
    body[body.length - 2] = (body[body.length - 2] ?? 0) ^ 1;
    await route.fulfill({ response: answer, body });
  });
  await page.goto(`/reports/view?id=${facts.made.report}`);
  await expect(page.getByText("altered", { exact: true })).toBeVisible();
});
