import { ask, expect, expectAccessible, facts, test } from "./stack";

const NAME = "watched";
/** It reads every prompt and acts on some, so that there are scores to look at. */
const POLICY = `meta: {id: ${NAME}, target_class: jailbreak}
interventions:
  - {type: head_scale, selector: {layer: 1, heads: [1]}, scale: 0.5}
`;

interface Compared {
  report: { requests: number; verdict: string };
}

test("a policy's traffic is counted, compared, and shown in parts; the view is in the address", async ({
  page,
  signIn,
  complaints,
}) => {
  const { version } = await ask<{ version: number }>("operator", "POST", "/policies", { yaml: POLICY });
  for (const [role, step] of [
    ["operator", "propose"],
    ["approver", "approve"],
    ["approver", "activate"],
  ] as const)
    await ask(role, "POST", `/policies/${NAME}/versions/${version}/${step}`);
  const [model] = (await ask<{ data: { id: string }[] }>("operator", "GET", "/v1/models")).data;
  for (let at = 0; at < 5; at += 1)
    await ask("operator", "POST", "/v1/completions", {
      model: model?.id,
      prompt: `Say ${at}`,
      max_tokens: 1,
      policy: NAME,
    });
  await expect(async () => {
    const { report } = await ask<Compared>("viewer", "GET", `/drift/${NAME}`);
    expect(report.requests).toBe(5);
  }).toPass({ timeout: 60_000 });

  await signIn("viewer");
  await page.goto(`/drift?policy=${NAME}`);
  const row = page.getByRole("table", { name: "Policies in production" }).getByRole("row", { name: NAME });
  await expect(row).toContainText("too few requests");
  await expect(row).toContainText("5");
  const detail = page.getByRole("region", { name: `${NAME}, in detail` }).or(page.locator("section").last());
  await expect(detail).toContainText("5 requests");
  await expect(page.getByRole("img", { name: /Population stability index over time/ })).toBeVisible();
  await page.getByLabel("Window", { exact: true }).selectOption("168");
  await expect(page).toHaveURL(/hours=168/);
  await page.reload();
  await expect(page.getByLabel("Window", { exact: true })).toHaveValue("168");
  await page.getByText("As a table").last().click();
  await expect(page.getByRole("table", { name: "Parts of the window" })).toBeVisible();
  await expectAccessible(page);
  expect(complaints).toEqual([]);
  expect(facts.dashboard).toContain("http");
});
