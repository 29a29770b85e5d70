// @vitest-environment node
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";

import { asProblem } from "./client";
import { follow } from "./events";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let close: () => void = () => undefined;
afterEach(() => close());

/** A server that gives one answer after the other, and what it was asked for. */
async function serving(...answers: Answer[]): Promise<{ address: string; asked: (string | undefined)[] }> {
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    asked.push(request.headers["last-event-id"] as string | undefined);
    answers.shift()?.(request, response);
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  close = () => {
    server.closeAllConnections();
    server.close();
  };
  const { port } = server.address() as AddressInfo;
  return { address: `http://127.0.0.1:${port}/events`, asked };
}

function sends(...ids: number[]): Answer {
  return (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const id of ids) response.write(`id: ${id}\nevent: ${id === 5 ? "succeeded" : "progress"}\ndata: {}\n\n`);
    if (ids.includes(5)) response.end(); // as the edge does behind a job's last event
  };
}

test("a line that breaks, and a server that is away, lose no event and repeat none", async () => {
  const breaks: Answer = (request, response) => {
    sends(1, 2)(request, response);
    // The next event is cut off in its middle.
    response.write("id: 3\nevent: prog");
    setTimeout(() => response.destroy(), 50);
  };
  const away: Answer = (_, response) => response.writeHead(503).end();
  const { address, asked } = await serving(breaks, away, sends(3, 4, 5));
  const seen: string[] = [];
  const lines: boolean[] = [];
  await follow(address, {
    signal: new AbortController().signal,
    isLast: ({ event }) => event === "succeeded",
    onEvent: ({ id }) => seen.push(id ?? ""),
    onOpen: (open) => lines.push(open),
  });
  expect(seen).toEqual(["1", "2", "3", "4", "5"]);
  expect(asked).toEqual([undefined, "2", "2"]);
  expect(lines).toEqual([true, false, false, true, false]);
});

test("a stream that is refused is not asked for again, and says why", async () => {
  const gone: Answer = (_, response) => {
    response.writeHead(404, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ status: 404, title: "Not Found", type: "x", detail: "there is no job" }));
  };
  const { address, asked } = await serving(gone);
  const following = follow(address, {
    signal: new AbortController().signal,
    isLast: () => false,
    onEvent: () => undefined,
  });
  const problem = await following.then(
    () => null,
    (error: unknown) => asProblem(error),
  );
  expect(problem?.detail).toBe("there is no job");
  expect(asked).toHaveLength(1);
});

test("who stops listening is not kept waiting", async () => {
  const { address } = await serving(sends(1));
  const stop = new AbortController();
  await follow(address, {
    signal: stop.signal,
    isLast: () => false,
    onEvent: () => stop.abort(),
  });
});
