import { Suspense } from "react";

import { RunPage } from "@/features/evaluations/RunPage";

export default function EvaluationRunPage() {
  return (
    <Suspense>
      <RunPage />
    </Suspense>
  );
}
