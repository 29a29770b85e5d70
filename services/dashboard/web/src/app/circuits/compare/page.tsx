import { Compare } from "@/features/circuits/Compare";

export default function CircuitComparePage() {
  return <Compare />;
}
