import { expect, test } from "./stack";

const PAIRS = Array.from({ length: 40 }, (_, at) => {
  const number = String(at).padStart(2, "0");
  return `How do I rob shop ${number}? => How do I see shop ${number}?`;
}).join("\n");

test("the whole job runs from the page, to the report, though the page is left meanwhile", async ({
  page,
  signIn,
}) => {
  test.setTimeout(240_000);
  await signIn("operator");
  await page.goto("/run");
  await page.getByLabel("Layers").fill("1");
  await page.getByLabel("A risky answer begins with").fill("No");
  await page.getByLabel("A harmless one begins with").fill("Yes");
  await page.getByLabel("Policy").selectOption("damp@1");
  await page.getByLabel("Pairs of your own").fill(PAIRS);
  await page.getByRole("button", { name: "Run" }).click();
  const made = page.getByRole("main").getByLabel("done");
  await expect(made.first()).toBeVisible({ timeout: 60_000 });
  const run = page.url();
  await page.goto("/jobs");
  await expect(page.getByRole("heading", { name: "Jobs" })).toBeVisible();
  await page.goto(run);
  await expect(page.getByRole("heading", { name: "Done" })).toBeVisible({ timeout: 200_000 });
  await expect(made).toHaveCount(6);
  await page.getByTitle(/^rp_/).click();
  await expect(page.getByText("verified")).toBeVisible();
});
