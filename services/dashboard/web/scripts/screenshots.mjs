/** Take the README's screenshots of a stack that runs, with what is in it.
 *
 *     INTERPRETOPS_UI=http://127.0.0.1:8090 INTERPRETOPS_API_KEY=iop_… node scripts/screenshots.mjs FOLDER
 */

import { chromium } from "@playwright/test";
import { mkdirSync } from "node:fs";

const [folder] = process.argv.slice(2);
const UI = process.env.INTERPRETOPS_UI ?? "http://127.0.0.1:8090";
const KEY = process.env.INTERPRETOPS_API_KEY;
if (!folder || !KEY) {
  console.error("name a folder, and set INTERPRETOPS_API_KEY");
  process.exit(2);
}
mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.INTERPRETOPS_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const context = await browser.newContext({
  baseURL: UI,
  viewport: { width: 1280, height: 800 },
  deviceScaleFactor: 1,
  reducedMotion: "reduce",
});
const ours = { "x-interpretops": "1" };
const signedIn = await context.request.post("/session", { headers: ours, data: { key: KEY } });
if (!signedIn.ok()) throw new Error(await signedIn.text());

/** The newest artifact of a list, if there is one. */
async function newest(path) {
  const { items } = await (await context.request.get(`/api${path}?limit=1`)).json();
  return items[0]?.id;
}

const circuit = await newest("/circuits");
const card = await newest("/risk-cards");
const report = await newest("/reports");
const SHOTS = [
  ["overview", "/"],
  circuit && ["circuit", `/circuits/view?id=${circuit}`],
  card && ["evaluation", `/evaluations/view?id=${card}`],
  report && ["report", `/reports/view?id=${report}`],
].filter(Boolean);

const page = await context.newPage();
for (const [name, address] of SHOTS) {
  await page.goto(address);
  await page.waitForFunction(() => !document.body.innerText.includes("Loading "));
  await page.waitForTimeout(1500); // what is drawn after it came
  await page.screenshot({ path: `${folder}/${name}.png` });
  console.log(`${folder}/${name}.png`);
}
await browser.close();
