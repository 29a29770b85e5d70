/** Which tokens of two answers are the same: their longest common subsequence. */

export interface PlayedToken {
  id: number;
  text: string;
  logprob: number;
}

export interface Difference {
  /** For each token of the baseline, whether it stands in the steered answer as well. */
  baseline: boolean[];
  steered: boolean[];
  /** Index of the first token that differs; null where none does. */
  first: number | null;
  changed: number;
}

export function difference(
  baseline: readonly Pick<PlayedToken, "id">[],
  steered: readonly Pick<PlayedToken, "id">[],
): Difference {
  const rows = baseline.length;
  const columns = steered.length;
  // lengths[i][j]: of the longest common subsequence of what follows i and j.
  const lengths = Array.from({ length: rows + 1 }, () => new Uint16Array(columns + 1));
  for (let i = rows - 1; i >= 0; i -= 1) {
    for (let j = columns - 1; j >= 0; j -= 1) {
      const row = lengths[i];
      const next = lengths[i + 1];
      if (row === undefined || next === undefined) continue;
      row[j] =
        baseline[i]?.id === steered[j]?.id
          ? (next[j + 1] ?? 0) + 1
          : Math.max(next[j] ?? 0, row[j + 1] ?? 0);
    }
  }
  const kept = { baseline: Array<boolean>(rows).fill(false), steered: Array<boolean>(columns).fill(false) };
  let i = 0;
  let j = 0;
  while (i < rows && j < columns) {
    if (baseline[i]?.id === steered[j]?.id) {
      kept.baseline[i] = true;
      kept.steered[j] = true;
      i += 1;
      j += 1;
    } else if ((lengths[i + 1]?.[j] ?? 0) >= (lengths[i]?.[j + 1] ?? 0)) {
      i += 1;
    } else {
      j += 1;
    }
  }
  const first = steered.findIndex((token, at) => token.id !== baseline[at]?.id);
  const shorter = rows > columns ? columns : null;
  return {
    ...kept,
    first: first === -1 ? shorter : first,
    changed: kept.steered.filter((same) => !same).length,
  };
}

/** Layer of a unit such as `layer18.f471`; null where its name has none. */
export function layerOf(unit: string): number | null {
  const found = /layer(\d+)/.exec(unit);
  return found === null ? null : Number(found[1]);
}

/** Units by the layer they are in, from the first layer to the last. */
export function byLayer(units: readonly string[]): [layer: number | null, units: string[]][] {
  const groups = new Map<number | null, string[]>();
  for (const unit of units) {
    const layer = layerOf(unit);
    groups.set(layer, [...(groups.get(layer) ?? []), unit.replace(/^layer\d+\./, "")]);
  }
  return [...groups].sort(([a], [b]) => (a ?? Infinity) - (b ?? Infinity));
}
