import { AuditLog } from "@/features/audit/AuditLog";

export default function AuditLogPage() {
  return <AuditLog />;
}
