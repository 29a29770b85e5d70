import { Suspense } from "react";

import { ComparePage } from "@/features/evaluations/ComparePage";

export default function EvaluationComparePage() {
  return (
    <Suspense>
      <ComparePage />
    </Suspense>
  );
}
