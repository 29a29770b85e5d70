import { Suspense } from "react";

import { ProposePage } from "@/features/policies/ProposePage";

export default function PolicyProposePage() {
  return (
    <Suspense>
      <ProposePage />
    </Suspense>
  );
}
