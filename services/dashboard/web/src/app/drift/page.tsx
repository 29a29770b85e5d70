import { Drift } from "@/features/drift/Drift";

export default function DriftPage() {
  return <Drift />;
}
