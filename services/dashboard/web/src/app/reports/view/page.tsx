import { Report } from "@/features/reports/Report";

export default function ReportPage() {
  return <Report />;
}
