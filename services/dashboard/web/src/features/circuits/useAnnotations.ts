"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useState } from "react";

import { api, asProblem, edge, must, ProblemError, type Schema } from "@/api/client";

import type { Supernode } from "./groups";

export type Annotations = Schema["AnnotationDocument"];

/** Somebody else wrote meanwhile. */
export class Conflict extends Error {
  constructor(readonly theirs: Annotations) {
    super("changed meanwhile");
  }
}

/** What people wrote about a circuit, and how to write more without overwriting anybody. */
export function useAnnotations(id: string) {
  const options = { params: { path: { artifact_id: id } } };
  const query = api.useQuery("get", "/circuit/{artifact_id}/annotations", options);
  const client = useQueryClient();
  const [busy, setBusy] = useState(false);
  const { refetch } = query;
  const save = useCallback(
    async (body: { supernodes: readonly Supernode[]; pinned: readonly string[] }, revision: number) => {
      setBusy(true);
      try {
        const answer = await edge.PUT("/circuit/{artifact_id}/annotations", {
          params: {
            path: { artifact_id: id },
            header: { "if-match": `"${revision}"` },
          },
          body: {
            supernodes: body.supernodes.map(({ name, nodes }) => ({ name, nodes: [...nodes] })),
            pinned: [...body.pinned],
          },
        });
        if (answer.error !== undefined && asProblem(answer.error).status === 412) {
          const theirs = await refetch();
          if (theirs.data !== undefined) throw new Conflict(theirs.data);
          throw new ProblemError(asProblem(answer.error));
        }
        const written = must(answer);
        client.setQueryData(
          api.queryOptions("get", "/circuit/{artifact_id}/annotations", {
            params: { path: { artifact_id: id } },
          }).queryKey,
          written,
        );
        return written;
      } finally {
        setBusy(false);
      }
    },
    [id, refetch, client],
  );
  return { query, save, busy };
}
