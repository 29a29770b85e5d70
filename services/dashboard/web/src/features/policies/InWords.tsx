"use client";

import { useQuery } from "@tanstack/react-query";

import { edge, must, type Schema } from "@/api/client";
import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";

import styles from "./Policies.module.css";

type Source = Pick<Schema["ExplainedPolicyBody"], "yaml" | "artifact" | "files">;

/** What a policy does and when, in sentences. */
export function InWords({ source }: { source: Source }) {
  const explained = useQuery({
    queryKey: ["explain", source],
    queryFn: async () => must(await edge.POST("/policies/explain", { body: source })),
    staleTime: Infinity, // what is explained never changes
  });
  if (explained.error) return <ErrorState problem={explained.error} compact />;
  if (explained.data === undefined) return <Loading what="the explanation" />;
  return (
    <ul className={styles.words}>
      {explained.data.sentences.map((sentence) => (
        <li key={sentence}>{sentence}</li>
      ))}
    </ul>
  );
}
