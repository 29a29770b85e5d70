import { title, type BarRow, type Criterion, type Estimate, type RiskCard } from "./card";

export interface ComparedCriterion {
  name: string;
  one: Criterion | undefined;
  other: Criterion | undefined;
}

/** The win line of both cards, criterion by criterion. */
export function compareCriteria(left: RiskCard, right: RiskCard): ComparedCriterion[] {
  const of = (card: RiskCard) => card.win_line.filter(({ source }) => source === "win line");
  const names = new Set([...of(left), ...of(right)].map(({ name }) => name));
  return [...names].map((name) => ({
    name,
    one: of(left).find((one) => one.name === name),
    other: of(right).find((one) => one.name === name),
  }));
}

/** Steered figures of the suites and metrics that both cards have. */
export function compareSuites(left: RiskCard, right: RiskCard): { name: string; rows: BarRow[] }[] {
  return left.suites.flatMap((suite) => {
    const twin = right.suites.find(({ name }) => name === suite.name);
    const rows = Object.entries(suite.metrics).flatMap(([name, pair]): BarRow[] => {
      const theirs = twin?.metrics[name];
      if (theirs === undefined) return [];
      const both = { baseline: pair.steered, steered: theirs.steered };
      return [{ key: name, label: title(name), name, pair: { ...both, change: apart(pair.steered, theirs.steered) } }];
    });
    return rows.length === 0 ? [] : [{ name: suite.name, rows }];
  });
}

/** The difference of two figures of different runs. Its interval adds theirs in quadrature, as of
 * independent figures; where both ran the same prompts it is wider than it needs to be. */
export function apart(before: Estimate, after: Estimate): Estimate {
  const value = after.value - before.value;
  const n = Math.min(before.n, after.n);
  if (before.low === undefined || before.high === undefined || after.low === undefined || after.high === undefined) {
    return { value, n };
  }
  const down = Math.hypot(after.value - after.low, before.high - before.value);
  const up = Math.hypot(after.high - after.value, before.value - before.low);
  return { value, low: value - down, high: value + up, n };
}

/** Why figures of both cards may differ for other reasons than their policies. */
export function comparable(left: RiskCard, right: RiskCard): string[] {
  const doubts: string[] = [];
  if (left.model.fingerprint !== right.model.fingerprint) {
    doubts.push(`The models differ: ${left.model.name} and ${right.model.name}.`);
  }
  for (const suite of left.suites) {
    const twin = right.suites.find(({ name }) => name === suite.name);
    if (twin !== undefined && twin.prompts_sha256 !== suite.prompts_sha256) {
      doubts.push(`${suite.name} asked other prompts, or another number of them (${suite.n} and ${twin.n}).`);
    }
  }
  if (left.policy.sha256 === right.policy.sha256) {
    doubts.push("Both measured the same policy: what differs is chance, or the way it was measured.");
  }
  return doubts;
}
