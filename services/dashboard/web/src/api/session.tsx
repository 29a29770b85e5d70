"use client";

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, type ReactNode } from "react";

import { asProblem, OURS, ProblemError, SIGNED_OUT, type Schema } from "./client";

export type Caller = Schema["Caller"];

/** What the dashboard's server says about this browser. */
export interface SessionState {
  caller: Caller | null;
  ends_at: number | null;
  /** The label of the button that signs in through the organisation's identity provider. */
  oidc: string | null;
}

const KEY = ["session"];

async function read(): Promise<SessionState> {
  let answer: Response;
  try {
    answer = await fetch("/session", { headers: OURS });
  } catch {
    throw new Error("the dashboard's server does not answer");
  }
  const body: unknown = await answer.json().catch(() => null);
  if (!answer.ok) throw new ProblemError(asProblem(body ?? "the platform does not answer"));
  return body as SessionState;
}

/** Who is signed in; asked once, and again when the server says that nobody is. */
export function useSession() {
  const client = useQueryClient();
  useEffect(() => {
    const ask = () => void client.invalidateQueries({ queryKey: KEY });
    window.addEventListener(SIGNED_OUT, ask);
    return () => window.removeEventListener(SIGNED_OUT, ask);
  }, [client]);
  return useQuery({
    queryKey: KEY,
    queryFn: read,
    staleTime: 60_000,
    retry: (count, error) => asProblem(error).status >= 500 && count < 3,
  });
}

/** Sign in with an API key.
 *
 * @throws ProblemError when the edge does not know the key.
 */
export async function signIn(key: string): Promise<void> {
  const answer = await fetch("/session", {
    method: "POST",
    headers: { ...OURS, "content-type": "application/json" },
    body: JSON.stringify({ key }),
  });
  if (!answer.ok) throw new ProblemError(asProblem(await answer.json()));
}

/** Sign out, and forget everything that was read. */
export async function signOut(): Promise<void> {
  await fetch("/session", { method: "DELETE", headers: OURS });
}

const CallerContext = createContext<Caller | null>(null);

export function CallerProvider({ caller, children }: { caller: Caller; children: ReactNode }) {
  return <CallerContext value={caller}>{children}</CallerContext>;
}

/** Who is signed in; pages are shown to nobody else. */
export function useCaller(): Caller {
  const caller = useContext(CallerContext);
  if (caller === null) throw new Error("useCaller is for pages, which need somebody signed in");
  return caller;
}

/** Whether the caller may do something. The server refuses it all the same. */
export function useMay(scope: Scope): boolean {
  return useCaller().scopes.includes(scope);
}

export type Scope =
  | "jobs:read"
  | "jobs:write"
  | "artifacts:read"
  | "artifacts:write"
  | "policies:read"
  | "policies:write"
  | "policies:approve"
  | "policies:activate"
  | "generate"
  | "audit:read"
  | "keys:read"
  | "keys:write"
  | "tenants:write";
