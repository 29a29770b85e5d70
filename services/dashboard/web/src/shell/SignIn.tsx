"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useRouter } from "next/navigation";
import { useState, type SubmitEvent } from "react";

import { asProblem, type Problem } from "@/api/client";
import { signIn } from "@/api/session";
import { Button } from "@/ui/Button";
import { Field } from "@/ui/Field";

import styles from "./SignIn.module.css";

/** What came back from the identity provider, in the address, when signing in did not work. */
const PROBLEMS: Record<string, string> = {
  refused: "You could not be signed in: the platform does not accept what your organisation says.",
  provider: "Your organisation's identity provider does not answer. Try again in a moment.",
  expired: "That took too long. Try again.",
  platform: "The platform does not answer. Try again in a moment.",
  "too-long": "Your organisation's tokens are too long to be kept in a browser.",
  "no-provider": "No identity provider is set up here. Use an API key.",
};

/** The page of those who are not signed in. */
export function SignIn({ oidc }: { oidc: string | null }) {
  const client = useQueryClient();
  const router = useRouter();
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const address = new URL(window.location.href);
  const failed = PROBLEMS[address.searchParams.get("problem") ?? ""];
  const back = address.pathname.startsWith("/sign-in") ? "/" : address.pathname + address.search;

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      await signIn(key);
      if (address.pathname.startsWith("/sign-in")) router.replace("/");
      await client.invalidateQueries();
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <main className={styles.page}>
      <div className={styles.box}>
        <h1>Sign in to InterpretOps</h1>
        {failed !== undefined && (
          <p role="alert" className={styles.problem}>
            {failed}
          </p>
        )}
        {oidc !== null && (
          <>
            <a className={styles.oidc} href={`/session/oidc?back=${encodeURIComponent(back)}`}>
              {oidc}
            </a>
            <p className={styles.or}>
              <span>or with an API key</span>
            </p>
          </>
        )}
        <form onSubmit={(event) => void submit(event)} className={styles.form}>
          <Field
            label="API key"
            hint="mechctl up showed one once; mechctl keys issue makes more. It is kept in a cookie that no script can read."
            error={problem === null ? undefined : `${problem.detail}. ${problem.fix ?? ""}`}
          >
            {(field) => (
              <input
                {...field}
                type="password"
                autoComplete="current-password"
                spellCheck={false}
                required
                value={key}
                placeholder="iop_…"
                onChange={(event) => {
                  setKey(event.target.value);
                  setProblem(null);
                }}
              />
            )}
          </Field>
          <Button type="submit" kind="primary" busy={busy}>
            Sign in
          </Button>
        </form>
      </div>
    </main>
  );
}
