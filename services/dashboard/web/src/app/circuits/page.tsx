import { Circuits } from "@/features/circuits/Circuits";

export default function CircuitsPage() {
  return <Circuits />;
}
