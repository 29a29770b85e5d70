import { createParser, type EventSourceMessage } from "eventsource-parser";

import { asProblem, OURS, ProblemError, SIGNED_OUT } from "./client";

export interface Following {
  /** Begin behind this event. */
  after?: string | undefined;
  signal: AbortSignal;
  onEvent: (event: EventSourceMessage) => void;
  /** Told whether the stream is open. */
  onOpen?: (open: boolean) => void;
  /** Whether this event is the last one; a stream that ends without it is asked for again. */
  isLast: (event: EventSourceMessage) => boolean;
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;

/** Follow an event stream to its last event.
 *
 * A connection that breaks, or a server that is away for a while, costs nothing: it is asked again,
 * for what comes behind the last event (`Last-Event-ID`). The browser's own `EventSource` gives up
 * on an answer like 503.
 *
 * @throws ProblemError when the server refuses, as for a stream that is not there.
 */
export async function follow(address: string, options: Following): Promise<void> {
  let { after } = options;
  let wait = FIRST_WAIT;
  for (;;) {
    try {
      const headers = { ...OURS, accept: "text/event-stream", ...(after && { "last-event-id": after }) };
      const answer = await fetch(address, { headers, signal: options.signal, cache: "no-store" });
      if (answer.status === 401) window.dispatchEvent(new Event(SIGNED_OUT));
      if (answer.status < 500 && answer.status !== 429 && !answer.ok) {
        throw new ProblemError(asProblem(await answer.json().catch(() => answer.statusText)));
      }
      if (answer.ok && answer.body !== null) {
        options.onOpen?.(true);
        wait = FIRST_WAIT;
        const seen = await readEvents(answer.body, (event) => {
          after = event.id ?? after;
          options.onEvent(event);
        });
        if (seen !== null && options.isLast(seen)) return;
      }
    } catch (error) {
      if (options.signal.aborted) return;
      if (error instanceof ProblemError) throw error;
    } finally {
      options.onOpen?.(false);
    }
    if (!(await paused(wait, options.signal))) return;
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

/** Read an event stream to its end, and give the last event; also for answers to a POST. */
export async function readEvents(
  body: ReadableStream<Uint8Array>,
  onEvent: (event: EventSourceMessage) => void,
): Promise<EventSourceMessage | null> {
  let last: EventSourceMessage | null = null;
  const parser = createParser({
    onEvent(event) {
      last = event;
      onEvent(event);
    },
  });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return last;
      parser.feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.releaseLock();
  }
}

function paused(milliseconds: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      resolve(true);
    }, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve(false);
    });
  });
}
