/** What was measured of a smaller circuit, and nothing that was not. */

import type { CircuitFile, CurvePoint } from "./circuit";
import type { Measured } from "./graph";

export type Reading =
  /** This many units were measured. */
  | { kind: "measured"; kept: Measured; units: number }
  /** Units were measured on both sides of it. */
  | { kind: "between"; below: CurvePoint; above: CurvePoint }
  /** Only the whole circuit was measured. */
  | { kind: "whole"; kept: Measured; units: number }
  /** No unit is kept, so nothing of the effect is. */
  | { kind: "none" };

/** How much of the effect so many of the circuit's strongest heads and MLPs keep, as far as it was measured.
 *
 * @param file The circuit.
 * @param units How many are kept.
 * @param all How many the circuit has.
 */
export function readFaithfulness(file: CircuitFile, units: number, all: number): Reading {
  if (units === 0) return { kind: "none" };
  if (units >= all) return { kind: "measured", kept: file.faithfulness, units: all };
  const curve = file.faithfulness_curve ?? [];
  const exact = curve.find((point) => point.units === units);
  if (exact !== undefined) return { kind: "measured", kept: exact.kept, units };
  const below = curve.filter((point) => point.units < units).at(-1);
  const above = curve.find((point) => point.units > units);
  if (below === undefined || above === undefined) {
    return { kind: "whole", kept: file.faithfulness, units: all };
  }
  return { kind: "between", below, above };
}
