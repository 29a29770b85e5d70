import type { Page } from "@playwright/test";

import { ask, expect, expectAccessible, test } from "./stack";

interface Version {
  name: string;
  version: number;
  state: string;
}

interface Entry {
  actor: string;
  action: string;
  target: string;
  body: Record<string, unknown>;
}

function text(name: string, scale: number): string {
  return `meta: {id: ${name}, target_class: jailbreak}
interventions:
  - type: head_scale
    selector: {layer: 1, heads: [0]}
    scale: ${scale}
`;
}

/** Put a text in the editor, in place of what is there. */
async function write(page: Page, content: string): Promise<void> {
  const editor = page.getByRole("textbox", { name: "Text of the policy" });
  await editor.click();
  await page.keyboard.press("Control+A");
  // Pasted, as a person would: lines that a browser inserts by itself come with styles, which the page forbids.
  await editor.evaluate((element, pasted) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", pasted);
    element.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  }, content);
}

async function audited(action: string, target: string): Promise<Entry[]> {
  const found = await ask<{ items: Entry[] }>("admin", "GET", `/audit?action=${action}&target=${target}`);
  return found.items;
}

test("a draft is checked while it is written, tried, approved by somebody else, and activated", async ({
  page,
  signIn,
  complaints,
}) => {
  await signIn("admin");
  await page.goto("/policies");
  await page.getByRole("link", { name: "Write a policy" }).click();
  await write(page, text("halve", 0.5).replace("heads", "haeds"));
  await expect(page.getByText("did you mean 'heads'?")).toBeVisible();
  await expect(page.getByRole("button", { name: "Save as a draft" })).toBeDisabled();
  await page.getByRole("button", { name: "4:26" }).click();
  await expectAccessible(page);
  await write(page, text("halve", 0.5));
  await expect(page.getByText("valid", { exact: true })).toBeVisible();
  await expect(page.getByText("multiplies the output of attention heads 0 by 0.5")).toBeVisible();

  // Tried before it is stored anywhere.
  await page.getByRole("button", { name: "Try it in the playground" }).click();
  await page.getByLabel("A user's turn").fill("How do I rob a shop?");
  await page.getByLabel("Tokens, at most").fill("12");
  await page.getByRole("button", { name: "Play" }).click();
  await expect(page.getByText("It has no condition, and acts on every request.")).toBeVisible();
  await expect(page.getByText(/tokens differ|are the same/)).toBeVisible();
  await expect(page.getByTestId("answer")).toHaveCount(2);
  await expect(page.getByRole("cell", { name: "attn.h0" })).toBeVisible();
  await page.getByText("Every token of the steered answer").click();
  await expect(page.getByRole("region", { name: "Tokens of the steered answer" })).toBeVisible();
  await expectAccessible(page);
  const { items } = await ask<{ items: Version[] }>("admin", "GET", "/policies");
  expect(items.map(({ name }) => name)).not.toContain("halve");

  await page.getByRole("link", { name: "Back to the draft" }).click();
  await page.getByRole("button", { name: "Save as a draft" }).click();
  await expect(page.getByRole("heading", { name: /halve version 1/ })).toBeVisible();
  await page.getByRole("button", { name: "Ask for approval" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Ask for approval" }).click();

  // Whoever wrote it may not approve it, and that they tried is on record.
  await page.getByRole("button", { name: "Approve", exact: true }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByText("you wrote it")).toBeVisible();
  await dialog.getByRole("button", { name: "Approve" }).click();
  await expect(dialog.getByRole("alert")).toContainText("Nobody may approve a policy that they wrote");
  await expect(dialog.getByText("Nothing was changed.")).toBeVisible();
  const [refused] = await audited("policy.approve.refused", "halve@1");
  expect(refused?.body).toEqual({ why: "nobody may approve a policy that they wrote" });

  await signIn("approver");
  await page.goto("/policies/view?name=halve&v=1");
  for (const step of ["Approve", "Activate"]) {
    await page.getByRole("button", { name: step, exact: true }).click();
    await page.getByRole("dialog").getByRole("button", { name: step, exact: true }).click();
    await expect(page.getByRole("dialog")).toBeHidden();
  }
  await expect(page.getByRole("heading", { name: /halve version 1/ })).toContainText("active");
  expect((await audited("policy.activate", "halve@1"))[0]?.actor).toBe("key:ben");
  await expectAccessible(page);

  await page.goto("/playground?policy=halve");
  await page.getByLabel("A user's turn").fill("Hello");
  await page.getByRole("button", { name: "Play" }).click();
  await expect(page.getByText("fired: it steers this answer")).toBeVisible();
  // A refusal is what this test is about; the browser notes its status.
  expect(complaints.filter((one) => !/40[34]|422/.test(one))).toEqual([]);
});

test("versions are compared, and rolled back", async ({ page, signIn }) => {
  for (const scale of [0.5, 0.25]) {
    const made = await ask<Version>("operator", "POST", "/policies", { yaml: text("turned", scale) });
    const path = `/policies/turned/versions/${made.version}`;
    await ask("operator", "POST", `${path}/propose`);
    await ask("approver", "POST", `${path}/approve`);
    await ask("approver", "POST", `${path}/activate`);
  }
  await signIn("approver");
  await page.goto("/policies/view?name=turned&v=2&tab=changes");
  const changes = page.getByRole("region", { name: "Changes from 1 to 2" });
  await expect(changes.getByRole("row", { name: /−\s+scale: 0.5/ })).toBeVisible();
  await expect(changes.getByRole("row", { name: /\+\s+scale: 0.25/ })).toBeVisible();
  await expectAccessible(page);
  await page.getByRole("button", { name: "Roll back" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Roll back" }).click();
  await expect(page.getByRole("heading", { name: /turned version 2/ })).toContainText("retired");
  const { items } = await ask<{ items: Version[] }>("operator", "GET", "/policies/turned");
  expect(items.map(({ version, state }) => [version, state])).toEqual([
    [2, "retired"],
    [1, "active"],
  ]);
});

test("a step that saw an older state decides nothing", async ({ page, signIn }) => {
  await ask("operator", "POST", "/policies", { yaml: text("stale", 0.5) });
  await signIn("admin");
  await page.goto("/policies/view?name=stale&v=1");
  await page.getByRole("button", { name: "Ask for approval" }).click();
  await ask("approver", "POST", "/policies/stale/versions/1/retire");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Ask for approval" }).click();
  await expect(dialog.getByRole("alert")).toContainText("was changed meanwhile; it is retired now");
});

test("who may only look sees everything and changes nothing", async ({ page, signIn }) => {
  await signIn("viewer");
  await page.goto("/policies/view?name=damp&v=1");
  await expect(page.getByText("multiplies the output of attention heads 0 by 0.5")).toBeVisible();
  await page.getByRole("button", { name: "Ask for approval" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByText("not yours to do")).toBeVisible();
  await dialog.getByRole("button", { name: "Ask for approval" }).click();
  await expect(dialog.getByRole("alert")).toContainText("policies:write");
});
