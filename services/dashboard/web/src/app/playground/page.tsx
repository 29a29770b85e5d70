import { Suspense } from "react";

import { Playground } from "@/features/playground/Playground";

export default function PlaygroundPage() {
  return (
    <Suspense>
      <Playground />
    </Suspense>
  );
}
