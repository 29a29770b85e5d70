import { ask, expect, facts, processOf, test } from "./stack";

interface Job {
  id: string;
  state: string;
}

/** Something that takes a while: a dictionary that learns from more tokens than a second holds. */
function longJob(tokens = 600_000): Promise<Job> {
  const spec = { sites: ["resid_post.1"], kind: "topk", d_sae: 64, k: 4, tokens, batch: 64, card_tokens: 0 };
  return ask<Job>("operator", "POST", "/dictionaries", { trace: facts.made.trace, spec });
}

test("a job is stopped, and asked for again", async ({ page, signIn }) => {
  await signIn("operator");
  const { id } = await longJob(4_000_000);
  await page.goto(`/jobs/view?id=${id}`);
  await expect(page.getByText("live")).toBeVisible();
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Try again" })).toBeVisible();
  await expect(page.getByText("complete")).toBeVisible();
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page).not.toHaveURL(new RegExp(id));
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Try again" })).toBeVisible();
});

for (const program of ["dashboard", "edge"]) {
  test(`a line that breaks because the ${program} ends is taken up where it was`, async ({ page, signIn }) => {
    await signIn("operator");
    const { id } = await longJob();
    await page.goto(`/jobs/view?id=${id}`);
    const log = page.getByRole("log");
    await expect(log.getByText("progress").first()).toBeVisible();
    const before = await log.getByRole("listitem").count();
    process.kill(processOf(program), "SIGKILL");
    await expect(page.getByText("connecting again…")).toBeVisible();
    await expect(page.getByText("live")).toBeVisible({ timeout: 60_000 });
    await expect(async () => {
      expect(await log.getByRole("listitem").count()).toBeGreaterThan(before);
    }).toPass();
    await page.getByRole("button", { name: "Stop" }).click();
    await expect(page.getByText("complete")).toBeVisible();
    // Each event once, none missing: what the page shows is what the platform wrote.
    const written = (await ask<string>("operator", "GET", `/jobs/${id}/log`)).trim().split("\n");
    await expect(log.getByRole("listitem")).toHaveCount(written.length);
  });
}

test("the list shows what runs, and is filtered by address", async ({ page, signIn }) => {
  await signIn("operator");
  await page.goto("/jobs?state=SUCCEEDED&kind=report");
  const rows = page.getByRole("table", { name: "Jobs" }).locator("tbody tr");
  await expect(rows.first()).toContainText("Write report");
  await page.getByLabel("Work").selectOption("Trace");
  await expect(page).toHaveURL(/kind=trace/);
  await expect(rows.first()).toContainText("Trace");
  await page.reload();
  await expect(page.getByLabel("Work")).toHaveValue("trace");
});
