import { Suspense } from "react";

import { CardPage } from "@/features/evaluations/CardPage";

export default function EvaluationViewPage() {
  return (
    <Suspense>
      <CardPage />
    </Suspense>
  );
}
