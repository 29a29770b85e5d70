import { Jobs } from "@/features/jobs/Jobs";

export default function JobsPage() {
  return <Jobs />;
}
