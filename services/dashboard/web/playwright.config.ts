import { defineConfig } from "@playwright/test";

import { facts } from "./e2e/stack";

/** Run by `services/dashboard/e2e.py`, which brings up the stack that these specs are about. */
export default defineConfig({
  testDir: "./e2e",
  workers: 1, // one stack, on a small machine
  timeout: 90_000,
  expect: { timeout: 20_000 },
  forbidOnly: process.env.CI !== undefined,
  reporter: [["list"]],
  outputDir: "./test-results",
  use: {
    baseURL: facts.dashboard,
    viewport: { width: 1280, height: 900 },
    trace: "retain-on-failure",
    launchOptions: {
      executablePath: process.env.INTERPRETOPS_CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox"],
    },
  },
});
