"""The gate: only contestants that compute the same thing are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGIT_TOLERANCE = 1e-4
"""Largest difference of a logit from bare Hugging Face's, in float32."""

ACTIVATION_TOLERANCE = 1e-4
"""Largest difference of an activation, relative to the largest activation."""

FVU_TOLERANCE = 0.01
"""By how much of the best contestant's FVU another may be worse, as a share."""


@dataclass(frozen=True)
class Finding:
    """What the gate says of one contestant.

    Attributes:
        figure: What was measured, for the table.
        refusal: Why the contestant is not compared, or None.
    """

    figure: dict[str, float]
    refusal: str | None = None


@dataclass(frozen=True)
class SameArrays:
    """Arrays that a contestant writes must equal those of the reference.

    Arrays called `*logits` are compared absolutely, as `LOGIT_TOLERANCE` says; others relative to
    the reference's largest value.

    Attributes:
        reference: Name of the contestant that is right by definition.
    """

    reference: str

    def __call__(self, evidence: Mapping[str, Mapping[str, Any]]) -> dict[str, Finding]:
        """Judge each contestant by the `.npz` file it names."""
        if self.reference not in evidence:
            refusal = f"the reference, {self.reference}, did not run"
            return {name: Finding({}, refusal) for name in evidence}
        right = np.load(evidence[self.reference]["file"])
        return {name: self._judge(right, np.load(e["file"])) for name, e in evidence.items()}

    def _judge(self, right: Mapping[str, Any], theirs: Mapping[str, Any]) -> Finding:
        figure: dict[str, float] = {}
        for name in right:
            if name not in theirs:
                continue
            expected, found = right[name], theirs[name]
            if expected.shape != found.shape:
                return Finding(figure, f"{name}: shape {found.shape} instead of {expected.shape}")
            difference = float(np.abs(expected - found).max())
            absolute = name.endswith("logits")
            scale = 1.0 if absolute else float(np.abs(expected).max())
            limit = LOGIT_TOLERANCE if absolute else ACTIVATION_TOLERANCE
            figure[name] = difference / scale
            # Not `>`, which a NaN would pass.
            if not difference <= limit * scale:
                return Finding(figure, f"{name} differ by {difference / scale:.1e}, over {limit:g}")
        return Finding(figure) if figure else Finding(figure, "it showed nothing to compare")


def same_quality(evidence: Mapping[str, Mapping[str, Any]]) -> dict[str, Finding]:
    """Dictionaries must explain held-out activations about as well as the best under their rule.

    Evidence names the FVU, the mean number of active features, and the rules for decoder norms and
    gradient clipping, which decide by themselves how fast the FVU falls.
    """
    findings = {}
    for name, e in evidence.items():
        fvu = float(e["fvu"])
        best = min(float(o["fvu"]) for o in evidence.values() if o["rule"] == e["rule"])
        fair = fvu <= best * (1 + FVU_TOLERANCE)
        refusal = None if fair else f"FVU {fvu:.4f}, more than 1 % worse than the best, {best:.4f}"
        findings[name] = Finding({"fvu": fvu, "l0": float(e["l0"])}, refusal)
    return findings


def no_peers(evidence: Mapping[str, Mapping[str, Any]]) -> dict[str, Finding]:
    """A row with one contestant: there is nothing that it must equal."""
    return {name: Finding({}) for name in evidence}
