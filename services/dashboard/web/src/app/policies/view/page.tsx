import { Suspense } from "react";

import { PolicyPage } from "@/features/policies/PolicyPage";

export default function PolicyViewPage() {
  return (
    <Suspense>
      <PolicyPage />
    </Suspense>
  );
}
