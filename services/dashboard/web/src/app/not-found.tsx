import { Compass } from "lucide-react";
import Link from "next/link";

import { EmptyState } from "@/ui/EmptyState";

export default function NotFound() {
  return (
    <EmptyState alone title="There is no such page" icon={Compass} action={<Link href="/">Overview</Link>}>
      <p>The address may have been cut short.</p>
    </EmptyState>
  );
}
