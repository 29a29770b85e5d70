/** What a fit writes beside its policy (`fit.json`), as far as it is shown. */

export interface FrontFigure {
  value: number;
  low: number;
  high: number;
  n: number;
}

export interface FrontPoint {
  trial: number;
  budget: number;
  threshold: number;
  fired_risky: number;
  fired_harmless: number;
  defense_efficacy: FrontFigure | null;
  collateral_damage: FrontFigure;
  efficient: boolean;
  chosen: boolean;
  file: string;
}

export interface Trial {
  name: string;
  strength: number;
  averted: number;
  degenerate: number;
  n: number;
}

export interface FitEvidence {
  condition_auroc: number;
  condition_recall: number;
  condition_false_positives: number;
  condition_n: number;
  validation_recall: number;
  validation_false_positives: number;
  validation_n: number;
  does: string;
  loss_before: number;
  loss_features: number;
  loss_full: number;
  feature_share: number;
  features: Record<string, string>;
  unsteered: Trial;
  trials: Trial[];
  chosen: number;
  front?: FrontPoint[];
}

/** A candidate's name: what is held, and how strongly. */
export function candidate({ name, strength }: Pick<Trial, "name" | "strength">): string {
  return `${name} × ${strength}`;
}

/** The points of a front from the least damage to the most; those that nothing beats form its line. */
export function frontLine(points: readonly FrontPoint[]): FrontPoint[] {
  return points
    .filter(({ efficient, defense_efficacy: de }) => efficient && de !== null)
    .sort(
      (a, b) =>
        a.collateral_damage.value - b.collateral_damage.value ||
        (a.defense_efficacy?.value ?? 0) - (b.defense_efficacy?.value ?? 0),
    );
}

/** The interval of damage and of efficacy that a chart must hold, with some room. */
export function extent(points: readonly FrontPoint[]): { damage: [number, number]; efficacy: [number, number] } {
  const damages = points.flatMap(({ collateral_damage: cd }) => [cd.low, cd.value, cd.high]);
  const efficacies = points.flatMap(({ defense_efficacy: de }) => (de ? [de.low, de.high] : []));
  return {
    damage: [Math.min(0, ...damages), Math.max(0.06, ...damages)],
    efficacy: [Math.min(0, ...efficacies), Math.max(0.6, ...efficacies, 0)],
  };
}
