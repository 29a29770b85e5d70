import {
  Activity,
  BrainCircuit,
  ClipboardCheck,
  FileText,
  Gauge,
  ListChecks,
  MessagesSquare,
  ScrollText,
  Settings,
  ShieldCheck,
  type LucideIcon,
} from "lucide-react";

import type { Scope } from "@/api/session";

/** A page in the sidebar. */
export interface PageEntry {
  path: string;
  label: string;
  icon: LucideIcon;
  /** Who lacks this sees the page say so; the server refuses as well. */
  needs: Scope;
}

export const PAGES: readonly PageEntry[] = [
  { path: "/", label: "Overview", icon: Gauge, needs: "artifacts:read" },
  { path: "/circuits", label: "Circuits", icon: BrainCircuit, needs: "artifacts:read" },
  { path: "/policies", label: "Policies", icon: ShieldCheck, needs: "policies:read" },
  { path: "/playground", label: "Playground", icon: MessagesSquare, needs: "generate" },
  { path: "/evaluations", label: "Evaluations", icon: ClipboardCheck, needs: "artifacts:read" },
  { path: "/drift", label: "Drift", icon: Activity, needs: "artifacts:read" },
  { path: "/reports", label: "Reports", icon: FileText, needs: "artifacts:read" },
  { path: "/jobs", label: "Jobs", icon: ListChecks, needs: "jobs:read" },
  { path: "/audit", label: "Audit log", icon: ScrollText, needs: "audit:read" },
  { path: "/settings", label: "Settings", icon: Settings, needs: "jobs:read" },
];

/** The page that an address belongs to: `/circuits/view` to Circuits. */
export function pageOf(path: string): PageEntry | undefined {
  const plain = path.replace(/\/$/, "") || "/";
  return PAGES.find(({ path: own }) => own === plain || (own !== "/" && plain.startsWith(`${own}/`)));
}
