import Link from "next/link";

import { shortId } from "./format";

const PAGES: Record<string, string> = {
  cx: "/circuits/view",
  rc: "/evaluations/view",
  rp: "/reports/view",
};

/** Where an artifact is looked at: kinds with a page of their own have it, the rest share one. */
export function artifactAddress(id: string): string {
  return `${PAGES[id.split("_")[0] ?? ""] ?? "/artifacts/view"}?id=${id}`;
}

/** A link to an artifact, by the end of its id. */
export function ArtifactLink({ id }: { id: string }) {
  return (
    <Link href={artifactAddress(id)} title={id} prefetch={false}>
      {shortId(id)}
    </Link>
  );
}
