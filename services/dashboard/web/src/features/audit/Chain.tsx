"use client";

import { useQuery } from "@tanstack/react-query";
import { ShieldCheck } from "lucide-react";
import { useState, type SubmitEvent } from "react";

import { edge, must } from "@/api/client";
import { Badge } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import { Copy } from "@/ui/Copy";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { count } from "@/ui/format";
import { Section } from "@/ui/Page";

import styles from "./Chain.module.css";

const HEAD = /^(\d+):([0-9a-f]{64})$/;

/** Walk the chain from its beginning, and hold it against a head that was noted earlier. */
export function Chain() {
  const [known, setKnown] = useState("");
  const [asked, setAsked] = useState<string | null>(null);
  const [wrong, setWrong] = useState(false);
  const walk = useQuery({
    queryKey: ["audit-chain", asked],
    enabled: asked !== null,
    gcTime: 0,
    staleTime: Infinity,
    queryFn: async ({ signal }) => {
      const [, seq, hash] = HEAD.exec(asked ?? "") ?? [];
      const query = seq !== undefined && hash !== undefined ? { seq: Number(seq), hash } : {};
      return must(await edge.GET("/audit/verify", { params: { query }, signal }));
    },
  });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const text = known.trim();
    const right = text === "" || HEAD.test(text);
    setWrong(!right);
    if (!right) return;
    if (asked === text) void walk.refetch();
    setAsked(text);
  };
  const verdict = walk.data;
  return (
    <Section title="The chain">
      <form className={styles.form} onSubmit={submit}>
        <Field
          label="Head noted earlier (optional)"
          error={wrong ? "Give it as number:hash, as it was shown." : undefined}
          hint="Who takes over the database could rewrite the chain to its end, but not a head you keep elsewhere."
        >
          {(field) => (
            <input
              {...field}
              value={known}
              spellCheck={false}
              placeholder="1284:9f2c…"
              onChange={(event) => setKnown(event.target.value)}
            />
          )}
        </Field>
        <Button type="submit" busy={walk.isFetching}>
          <ShieldCheck size={15} aria-hidden /> Verify the chain
        </Button>
      </form>
      <div aria-live="polite">
        {walk.error ? (
          <ErrorState problem={walk.error} compact />
        ) : (
          verdict && (
            <p className={styles.verdict}>
              {verdict.intact ? (
                <>
                  <Badge tone="good">intact</Badge> All {count(verdict.seq)} entries are as they were
                  written{asked && ", and the head you noted is among them"}. Note its head:{" "}
                  <Copy
                    what="the head"
                    text={`${verdict.seq}:${verdict.hash ?? ""}`}
                    shown={`${verdict.seq}:${(verdict.hash ?? "").slice(0, 16)}…`}
                  />
                </>
              ) : (
                <>
                  <Badge tone="bad">broken</Badge> Entry {count(verdict.seq)}: {verdict.problem}
                </>
              )}
            </p>
          )
        )}
      </div>
    </Section>
  );
}
