import { Job } from "@/features/jobs/Job";

export default function JobPage() {
  return <Job />;
}
