import createFetchClient from "openapi-fetch";
import createQueryHooks from "openapi-react-query";

import type { components, paths } from "./schema";

/** Schemas of the edge's OpenAPI document, such as `Schema["JobDocument"]`. */
export type Schema = components["schemas"];

/** Why a request failed, as the edge says it (RFC 9457). */
export type Problem = Schema["ProblemDocument"];

/** Tells the server that a page of the dashboard asks, and not one of another site. */
export const OURS = { "x-interpretops": "1" };

/** The edge, for imperative calls: `await edge.POST("/jobs/{job_id}/cancel", …)`. */
export const edge = createFetchClient<paths>({ baseUrl: "/api", headers: OURS });

edge.use({
  onResponse({ response }) {
    if (response.status === 401) window.dispatchEvent(new Event(SIGNED_OUT));
  },
  onError() {
    return unreachable();
  },
});

/** Typed hooks: `api.useQuery("get", "/jobs", {...})`, `api.useMutation("post", "/report")`. */
export const api = createQueryHooks(edge);

/** Sent to `window` when the server says that nobody is signed in any more. */
export const SIGNED_OUT = "interpretops:signed-out";

function unreachable(): Response {
  const problem: Problem = {
    type: "urn:interpretops:problem:unreachable",
    title: "Unreachable",
    status: 503,
    detail: "the dashboard's server does not answer",
    fix: "see whether it runs: mechctl status",
  };
  return Response.json(problem, { status: 503 });
}

/** A problem that is thrown; `asProblem` gives it back. */
export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

/** Whatever was thrown or answered, as a problem that can be shown. */
export function asProblem(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  if (typeof error === "object" && error !== null && "detail" in error && "status" in error) {
    return error as Problem;
  }
  const said = error instanceof Error ? error.message : String(error);
  return { type: "about:blank", title: "Error", status: 0, detail: said };
}

/** The answer's data, or the problem thrown: for calls outside of hooks. */
export function must<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.error !== undefined) throw new ProblemError(asProblem(answer.error));
  return answer.data as T;
}
