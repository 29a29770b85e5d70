import { expect, expectAccessible, facts, test } from "./stack";

test("a wrong key is refused, the right one signs in, and who signs out is out", async ({ page }) => {
  await page.goto("/jobs");
  await expectAccessible(page);
  const key = page.getByLabel("API key");
  await key.fill(`iop_abcdefgh2345_${"a".repeat(43)}`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.locator("p[role=alert]")).toBeVisible();
  await key.fill(facts.keys.operator);
  await key.press("Enter");
  await expect(page.getByRole("heading", { name: "Jobs" })).toBeVisible();
  // No script can read the credential, wherever it might be kept.
  const readable = await page.evaluate(() =>
    [document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)].join(),
  );
  expect(readable).not.toContain(facts.keys.operator.split("_")[2]);
  expect(readable).not.toContain("interpretops-");
  await page.getByRole("button", { name: /local/ }).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await expect(page.getByLabel("API key")).toBeVisible();
  expect((await page.request.get("/api/jobs")).status()).toBe(401);
});

test("what a role may not do is not offered, and refused all the same", async ({ page, signIn }) => {
  await signIn("viewer");
  await page.goto("/audit");
  await expect(page.getByRole("heading", { name: "You may not see this" })).toBeVisible();
  await expect(page.getByText("audit:read")).toBeVisible();
  await page.goto("/jobs");
  await expect(page.getByRole("heading", { name: "Jobs" })).toBeVisible();
  await expect(page.getByRole("link", { name: "Run the pipeline" })).toHaveCount(0);
  const ours = { "x-interpretops": "1" };
  const refused = await page.request.post("/api/report", {
    headers: ours,
    data: { risk_card: facts.made.card },
  });
  expect(refused.status()).toBe(403);
  const fromElsewhere = await page.request.delete("/session", { headers: { origin: "https://evil.example" } });
  expect(fromElsewhere.status()).toBe(403);
});

test("an admin issues a key, sees it once, and revokes it", async ({ page, signIn }) => {
  await signIn("admin");
  await page.goto("/settings");
  await page.getByRole("button", { name: "Issue a key" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("nightly-evals");
  await page.getByRole("dialog").getByLabel("Role").selectOption("viewer");
  await expectAccessible(page);
  await page.getByRole("button", { name: "Issue", exact: true }).click();
  const shown = page.getByRole("dialog").locator("code");
  await expect(shown).toHaveText(/^iop_/);
  const key = (await shown.textContent()) ?? "";
  const whoami = () => fetch(`${facts.edge}/whoami`, { headers: { authorization: `Bearer ${key}` } });
  expect((await whoami()).status).toBe(200);
  await page.getByRole("button", { name: "I have kept it" }).click();
  await expect(page.getByText(key)).toHaveCount(0);
  const row = page.getByRole("row", { name: /nightly-evals/ });
  await row.getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await expect(row.getByText("revoked")).toBeVisible();
  expect((await whoami()).status).toBe(401);
});

test("the audit log is filtered, and its chain verified against a head noted before", async ({ page, signIn }) => {
  await signIn("approver");
  await page.goto("/audit");
  await page.getByRole("button", { name: "Verify the chain" }).click();
  await expect(page.getByText("intact")).toBeVisible();
  const head = await page.getByTitle(/^\d+:[0-9a-f]{64}$/).getAttribute("title");
  const known = page.getByLabel("Head noted earlier (optional)");
  await known.fill(head ?? "");
  await page.getByRole("button", { name: "Verify the chain" }).click();
  await expect(page.getByText("the head you noted is among them")).toBeVisible();
  await known.fill((head ?? "").replace(/.$/, (last) => (last === "0" ? "1" : "0")));
  await page.getByRole("button", { name: "Verify the chain" }).click();
  await expect(page.getByText("broken")).toBeVisible();
  await page.getByLabel("Did").fill("key.issue");
  await page.getByRole("button", { name: "Filter" }).click();
  await expect(page).toHaveURL(/action=key.issue/);
  const actions = page.getByRole("table", { name: "Audit log" }).locator("td:nth-child(4)");
  await expect(actions.first()).toHaveText("key.issue");
  expect(new Set(await actions.allTextContents())).toEqual(new Set(["key.issue"]));
});
