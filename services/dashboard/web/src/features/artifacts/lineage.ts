import type { Schema } from "@/api/client";

type Artifact = Schema["ArtifactDocument"];

/** An artifact where it is drawn. */
export interface Placed {
  artifact: Artifact;
  /** How many steps of work lie before it. */
  column: number;
  row: number;
}

/** Place a lineage: parents left of their children, as far left as they can be.
 *
 * @param artifacts Parents before children, as the edge gives them.
 */
export function placed(artifacts: readonly Artifact[]): Placed[] {
  const columns = new Map<string, number>();
  const filled = new Map<number, number>();
  return artifacts.map((artifact) => {
    const before = artifact.parents.map((parent) => columns.get(parent) ?? -1);
    const column = Math.max(-1, ...before) + 1;
    columns.set(artifact.id, column);
    const row = filled.get(column) ?? 0;
    filled.set(column, row + 1);
    return { artifact, column, row };
  });
}
