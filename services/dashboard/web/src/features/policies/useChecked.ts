"use client";

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { edge, must } from "@/api/client";

const PAUSE = 350;

/** A value as it was once it had been left alone for a moment. */
export function useSettled<T>(value: T, milliseconds: number = PAUSE): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}

/** What the engine says of a policy's text while it is written, with the same messages as everywhere.
 *
 * `fresh` says whether that is about the text as it is now.
 */
export function useChecked(text: string, files: string | null, model: string | null) {
  const settled = useSettled(text);
  const query = useQuery({
    queryKey: ["validate", settled, files, model],
    queryFn: async ({ signal }) =>
      must(
        await edge.POST("/policies/validate", {
          body: { yaml: settled, files, model },
          signal,
        }),
      ),
    enabled: settled.trim() !== "",
    staleTime: 60_000,
    placeholderData: keepPreviousData,
  });
  return {
    verdict: query.data,
    problem: query.error,
    fresh: settled === text && !query.isFetching && query.data !== undefined,
  };
}
