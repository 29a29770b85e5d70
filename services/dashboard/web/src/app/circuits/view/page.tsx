import { CircuitPage } from "@/features/circuits/CircuitPage";

export default function CircuitViewPage() {
  return <CircuitPage />;
}
