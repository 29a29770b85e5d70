/** How long pages take to show their content and to answer; run by `services/dashboard/perf.py`.
 *
 * A first view lasts from the address to the moment at which its content is there and nothing says
 * "Loading" any more, with an empty cache for the first page and a warm one for the others. An interaction
 * is what the browser itself measures (Event Timing): from the input to the next frame.
 */

import { chromium } from "@playwright/test";
import { readFileSync } from "node:fs";

const facts = JSON.parse(readFileSync(process.env.INTERPRETOPS_E2E, "utf8"));
const FIRST_VIEW = 1000;
const INTERACTION = 100;
const TIMES = 5;

const browser = await chromium.launch({
  executablePath: process.env.INTERPRETOPS_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, baseURL: facts.dashboard });
const signedIn = await context.request.post("/session", {
  headers: { "x-interpretops": "1" },
  data: { key: facts.keys.admin },
});
if (!signedIn.ok()) throw new Error(await signedIn.text());
const page = await context.newPage();
await page.addInitScript(() => {
  window.interactions = [];
  new PerformanceObserver((list) => {
    for (const { duration, interactionId } of list.getEntries()) {
      if (interactionId) window.interactions.push(duration);
    }
  }).observe({ type: "event", durationThreshold: 16, buffered: true });
});

const { made } = facts;
const PAGES = [
  ["/", "Overview"],
  ["/circuits", "Circuits"],
  [`/circuits/view?id=${made.circuits[0]}`, null],
  ["/evaluations", "Evaluations"],
  ["/reports", "Reports"],
  [`/artifacts/view?id=${made.trace}`, "Trace"],
  ["/jobs", "Jobs"],
  ["/audit", "Audit log"],
];

/** What is done on a page, each a real input. */
const ACTIONS = {
  "/": [["open a table", (p) => p.getByText("All cards as a table").click()]],
  "/circuits": [["show more", (p) => p.getByRole("button", { name: "Show more" }).click()]],
  "/reports": [["show more", (p) => p.getByRole("button", { name: "Show more" }).click()]],
  "/jobs": [
    ["filter", (p) => p.getByLabel("Work").selectOption("trace")],
    ["go to another page", (p) => p.getByRole("link", { name: "Audit log" }).click()],
  ],
  "/audit": [["type into a filter", (p) => p.getByLabel("Who").pressSequentially("key:admin")]],
};

let missed = 0;
for (const [address, heading] of PAGES) {
  const views = [];
  for (let i = 0; i < TIMES; i++) {
    await page.goto("about:blank");
    const began = performance.now();
    await page.goto(address, { waitUntil: "commit" });
    await page.getByRole("heading", heading === null ? {} : { name: heading }).first().waitFor();
    await page.waitForFunction(() => !document.body.innerText.includes("Loading "), null, { polling: "raf" });
    views.push(performance.now() - began);
  }
  const [first, ...warm] = views.map(Math.round);
  const middle = warm.sort((a, b) => a - b)[Math.floor(warm.length / 2)];
  missed += middle >= FIRST_VIEW ? 1 : 0;
  console.log(`${address.split("?")[0].padEnd(20)} first view ${first} ms, then ${middle} ms`);
  for (const [name, act] of ACTIONS[address] ?? []) {
    await page.evaluate(() => (window.interactions.length = 0));
    await act(page);
    await page.waitForTimeout(800);
    const longest = Math.max(0, ...(await page.evaluate(() => window.interactions)));
    missed += longest >= INTERACTION ? 1 : 0;
    console.log(`${"".padEnd(20)} ${name}: ${longest} ms`);
  }
}
await browser.close();
process.exit(missed > 0 ? 1 : 0);
