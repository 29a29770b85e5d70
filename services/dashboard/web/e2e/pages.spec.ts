import { expect, expectAccessible, facts, test } from "./stack";

const { made } = facts;

/** Every page with something in it, and the heading it must come to show. */
const PAGES: readonly (readonly [string, string | RegExp])[] = [
  ["/", "Overview"],
  ["/circuits", "Circuits"],
  [`/circuits/view?id=${made.circuits[0]}`, /./],
  [`/circuits/compare?base=${made.circuits[0]}&other=${made.circuits[1]}`, /./],
  ["/policies", "Policies"],
  ["/policies/view?name=damp", /damp/],
  ["/playground", "Playground"],
  ["/evaluations", "Evaluations"],
  [`/evaluations/view?id=${made.card}`, /./],
  ["/drift", "Drift"],
  ["/reports", "Reports"],
  [`/reports/view?id=${made.report}`, "Audit report"],
  [`/artifacts/view?id=${made.trace}`, "Trace"],
  ["/jobs", "Jobs"],
  ["/run", "Run the pipeline"],
  ["/audit", "Audit log"],
  ["/settings", "Settings"],
  ["/nowhere", "There is no such page"],
];

for (const [path, heading] of PAGES) {
  test(`${path.split("?")[0] ?? ""} is accessible, light and dark, wide and narrow, and asks nobody else`, async ({
    page,
    signIn,
    complaints,
  }) => {
    await signIn("admin");
    for (const [colorScheme, width] of [
      ["light", 1280],
      ["dark", 900],
    ] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width, height: 900 });
      await page.goto(path);
      await expect(page.getByRole("heading", { name: heading }).first()).toBeVisible();
      await expect(page.getByText(/^Loading/)).toHaveCount(0);
      await expectAccessible(page);
      const overflow = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      expect(overflow, `${path} is wider than ${width} pixels`).toBeLessThanOrEqual(0);
    }
    // A page that is not there is a 404 by intention.
    expect(complaints.filter((text) => path !== "/nowhere" || !text.includes("404"))).toEqual([]);
  });
}

test("everything can be reached by keyboard, beginning with the way past the navigation", async ({
  page,
  signIn,
}) => {
  await signIn("admin");
  await page.goto("/jobs");
  await expect(page.getByRole("heading", { name: "Jobs" })).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(page.getByText("Skip to the content")).toBeFocused();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Run the pipeline" })).toBeFocused();
  // The menu of the person: opened, walked through and left without a mouse.
  await page.getByRole("button", { name: /admin/ }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowDown");
  await expect(page.getByRole("menuitem", { name: "Dark" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
});
