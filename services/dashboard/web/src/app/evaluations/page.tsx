import { Suspense } from "react";

import { CardList } from "@/features/evaluations/CardList";

export default function EvaluationsPage() {
  return (
    <Suspense>
      <CardList />
    </Suspense>
  );
}
