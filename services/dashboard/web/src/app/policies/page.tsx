import { PolicyList } from "@/features/policies/PolicyList";

export default function PoliciesPage() {
  return <PolicyList />;
}
