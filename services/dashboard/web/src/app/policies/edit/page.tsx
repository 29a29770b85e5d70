import { Suspense } from "react";

import { DraftPage } from "@/features/policies/DraftPage";

export default function PolicyEditPage() {
  return (
    <Suspense>
      <DraftPage />
    </Suspense>
  );
}
