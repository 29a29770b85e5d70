"use client";

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { Tooltip } from "radix-ui";
import { useEffect, useState, type ReactNode } from "react";

import { asProblem } from "@/api/client";
import { shareNonce } from "@/api/nonce";

export function Providers({ children }: { children: ReactNode }) {
  const [client] = useState(makeClient);
  useEffect(shareNonce, []);
  return (
    <QueryClientProvider client={client}>
      <Tooltip.Provider delayDuration={300}>{children}</Tooltip.Provider>
    </QueryClientProvider>
  );
}

function makeClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 5_000,
        refetchOnWindowFocus: true,
        // The platform may be starting again; what it refuses, it refuses the second time too.
        retry: (count, error) => asProblem(error).status >= 500 && count < 4,
        retryDelay: (attempt) => Math.min(500 * 2 ** attempt, 5_000),
      },
    },
  });
}
