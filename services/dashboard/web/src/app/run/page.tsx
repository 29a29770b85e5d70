import { Run } from "@/features/run/Run";

export default function RunPage() {
  return <Run />;
}
