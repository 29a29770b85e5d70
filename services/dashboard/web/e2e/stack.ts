import AxeBuilder from "@axe-core/playwright";
import { test as base, expect, type Page } from "@playwright/test";
import { readFileSync } from "node:fs";

export type Role = "admin" | "approver" | "operator" | "viewer";

/** Where the stack is, who may come in, and what `e2e.py` made in it. */
export interface Facts {
  folder: string;
  edge: string;
  dashboard: string;
  keys: Record<Role, string>;
  made: { trace: string; dictionary: string; circuits: [string, string]; card: string; report: string };
}

const path = process.env.INTERPRETOPS_E2E;
if (path === undefined) throw new Error("run these by services/dashboard/e2e.py");

export const facts = JSON.parse(readFileSync(path, "utf8")) as Facts;

interface Fixtures {
  /** Sign in as somebody. */
  signIn: (role: Role) => Promise<void>;
  /** What the page complained about: errors in its console, and requests that left its origin. */
  complaints: string[];
}

export const test = base.extend<Fixtures>({
  signIn: async ({ context }, use) => {
    await use(async (role) => {
      const answer = await context.request.post("/session", {
        headers: { "x-interpretops": "1" },
        data: { key: facts.keys[role] },
      });
      expect(answer.status()).toBe(200);
    });
  },
  complaints: async ({ page }, use) => {
    const complaints: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (protocol.startsWith("http") && origin !== facts.dashboard) complaints.push(request.url());
    });
    await use(complaints);
  },
});

export { expect };

/** Fail where axe finds something that WCAG 2.2 AA forbids. */
export async function expectAccessible(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page })
    .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"])
    .analyze();
  const found = violations.map(({ id, help, nodes }) => ({
    id,
    help,
    nodes: nodes.slice(0, 5).map(({ target, failureSummary }) => `${target.join(" ")}: ${failureSummary ?? ""}`),
  }));
  expect(found).toEqual([]);
}

/** The process of a program of the stack. */
export function processOf(program: string): number {
  const state = JSON.parse(readFileSync(`${facts.folder}/.io_stack/run/state.json`, "utf8")) as {
    programs: { name: string; process: { pid: number } | null }[];
  };
  const pid = state.programs.find(({ name }) => name === program)?.process?.pid;
  if (pid === undefined) throw new Error(`${program} does not run`);
  return pid;
}

/** Ask the edge directly, as somebody. */
export async function ask<T>(role: Role, method: string, path: string, body?: unknown): Promise<T> {
  const answer = await fetch(`${facts.edge}${path}`, {
    method,
    headers: { authorization: `Bearer ${facts.keys[role]}`, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`);
  const type = answer.headers.get("content-type") ?? "";
  return (type.includes("json") ? await answer.json() : await answer.text()) as T;
}
