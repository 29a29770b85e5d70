import { ask, expect, expectAccessible, facts, test } from "./stack";

interface Entry {
  seq: number;
  actor: string;
  body: { samples: string[] };
}

interface Listed {
  facets: { suite: { value: string; count: number }[] };
}

test("a policy is measured from the page, live, and its card compared with another", async ({
  page,
  signIn,
}) => {
  await signIn("operator");
  await page.goto("/evaluations");
  await expect(page.getByRole("table", { name: "Risk Cards" }).getByRole("row")).not.toHaveCount(0);
  await expectAccessible(page);
  await page.getByRole("link", { name: "Evaluate a policy" }).click();
  await page.getByLabel("Policy", { exact: true }).selectOption("damp@1");
  await page.getByLabel("Only these suites").fill("jailbreak_redteam_v1, over_refusal_v1");
  await page.getByLabel("Prompts per suite, at most").fill("3");
  await page.getByLabel("Prompts for the alternatives").fill("0");
  await page.getByLabel("Prompts to time").fill("0");
  await expectAccessible(page);
  await page.getByRole("button", { name: "Measure" }).click();
  await expect(page.getByRole("heading", { name: "Measuring" })).toBeVisible();
  await expect(page).toHaveURL(/\/evaluations\/view\?id=rc_/, { timeout: 80_000 });
  await expect(page.getByRole("heading", { name: "Defense efficacy", exact: true })).toBeVisible();
  await expect(page.getByRole("heading", { name: /jailbreak_redteam_v1/ })).toBeVisible();
  await expectAccessible(page);

  const made = new URL(page.url()).searchParams.get("id") ?? "";
  await page.goto(`/evaluations/compare?a=${facts.made.card}&b=${made}`);
  await expect(page.getByRole("table", { name: "Criteria of both cards" })).toBeVisible();
  await expect(page.getByText("Both measured the same policy")).toBeVisible();
  await expectAccessible(page);
});

test("every part of a card is there", async ({ page, signIn }) => {
  await signIn("viewer");
  await page.goto(`/evaluations/view?id=${facts.made.card}`);
  for (const [tab, shows] of [
    ["Beside alternatives", "system prompt"],
    ["Latency and cost", "attacks"],
    ["Judges", "Not to be trusted"],
    ["About", "What was tested"],
  ] as const) {
    await page.getByRole("tab", { name: tab }).click();
    await expect(page.getByRole("tabpanel").getByText(shows).first()).toBeVisible();
    await expectAccessible(page);
  }
});

test("texts of samples come when they are asked for, and the audit log says to whom", async ({
  page,
  signIn,
}) => {
  await signIn("viewer");
  const texts: string[] = [];
  page.on("response", (response) => {
    if (response.url().includes(facts.made.card)) {
      void response.text().then((body) => texts.push(body), () => undefined);
    }
  });
  await page.goto(`/evaluations/view?id=${facts.made.card}&part=samples`);
  const samples = page.getByRole("tabpanel").getByRole("listitem");
  await expect(samples).not.toHaveCount(0);
  const { facets } = await ask<Listed>("viewer", "GET", `/risk-cards/${facts.made.card}/samples?limit=1`);
  const suite = facets.suite[0] ?? { value: "", count: 0 };
  await page.getByLabel("Suite").selectOption(suite.value);
  await expect(samples).toHaveCount(Math.min(suite.count, 25));
  await expect(page.getByText(`${suite.count} samples fit`)).toBeVisible();
  await expectAccessible(page);
  // What the page holds so far is no text of any prompt.
  expect(texts.join()).not.toContain('"prompt":');

  const first = samples.first();
  const id = await first.locator("strong").innerText();
  await first.getByRole("button", { name: `Reveal ${id}` }).click();
  await expect(first.getByText("Prompt", { exact: true })).toBeVisible();
  await expectAccessible(page);
  const target = `/audit?action=risk_card.reveal&target=${facts.made.card}`;
  const { items } = await ask<{ items: Entry[] }>("approver", "GET", target);
  expect(items[0]).toMatchObject({ actor: "key:vera", body: { samples: [`${suite.value}/${id}`] } });
  await first.getByRole("button", { name: `Hide ${id}` }).click();
  await expect(first.getByText("Prompt", { exact: true })).toBeHidden();
});

test("who may only look is not let measure", async ({ page, signIn }) => {
  await signIn("viewer");
  await page.goto("/evaluations/run?policy=damp@1");
  await expect(page.getByRole("button", { name: "Measure" })).toBeDisabled();
  const answer = await page.request.post("/api/eval", {
    headers: { "x-interpretops": "1" },
    data: { policy: "damp@1" },
  });
  expect(answer.status()).toBe(403);
});
