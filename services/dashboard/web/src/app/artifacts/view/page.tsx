import { Artifact } from "@/features/artifacts/Artifact";

export default function ArtifactPage() {
  return <Artifact />;
}
