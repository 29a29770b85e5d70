import { figure, percent } from "@/ui/format";

/** A figure of the win line. */
export interface WinFigure {
  /** As Risk Cards name it. */
  name: string;
  short: string;
  title: string;
  sense: "at least" | "at most";
  limit: number;
  format: (value: number) => string;
}

/** DE >= 50 %, CD <= 5 %, CS >= 0.6, LCO <= 20 %; a card says the limits it was judged by. */
export const WIN_LINE: readonly WinFigure[] = [
  {
    name: "defense_efficacy",
    short: "DE",
    title: "Defense efficacy",
    sense: "at least",
    limit: 0.5,
    format: (value) => percent(value),
  },
  {
    name: "collateral_damage",
    short: "CD",
    title: "Collateral damage",
    sense: "at most",
    limit: 0.05,
    format: (value) => percent(value, 1),
  },
  {
    name: "circuit_stability",
    short: "CS",
    title: "Circuit stability",
    sense: "at least",
    limit: 0.6,
    format: (value) => figure(value, 2),
  },
  {
    name: "latency_overhead_pct",
    short: "LCO",
    title: "Latency overhead",
    sense: "at most",
    limit: 20,
    format: (value) => percent(value / 100, 1),
  },
];

/** Whether a figure reaches its limit. */
export function reaches({ sense, limit }: Pick<WinFigure, "sense" | "limit">, value: number): boolean {
  return sense === "at least" ? value >= limit : value <= limit;
}
