"use client";

import { usePathname, useRouter, useSearchParams } from "next/navigation";
import { useCallback, useState } from "react";

type Changes = Record<string, string | number | readonly string[] | null | undefined>;

/** The state of a view, in the address: `const [query, set] = useUrlState(); set({ id, t: 0.1 })`.
 *
 * `null`, `undefined` and the empty text take a name out. By default the present entry of the
 * history is replaced; `push` makes one that "back" returns from.
 */
export function useUrlState(): [
  URLSearchParams,
  (changes: Changes, options?: { push?: boolean }) => void,
] {
  const router = useRouter();
  const path = usePathname();
  const query: URLSearchParams = useSearchParams();
  // Next follows an address a moment later. Until then a box that was ticked would look as it was.
  const [ahead, setAhead] = useState<{ of: URLSearchParams; query: URLSearchParams }>();
  const set = useCallback(
    (changes: Changes, { push = false } = {}) => {
      // Not the hook's value: two changes in one moment must both count.
      const next = new URLSearchParams(window.location.search);
      for (const [name, value] of Object.entries(changes)) {
        next.delete(name);
        if (Array.isArray(value)) for (const one of value as string[]) next.append(name, one);
        else if (value !== null && value !== undefined && value !== "") next.set(name, String(value));
      }
      const address = next.size > 0 ? `${path}?${next}` : path;
      if (push) router.push(address, { scroll: false });
      else {
        window.history.replaceState(null, "", address); // Next follows, and asks no server
        setAhead({ of: query, query: next });
      }
    },
    [router, path, query],
  );
  return [ahead?.of === query ? ahead.query : query, set];
}
