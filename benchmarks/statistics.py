"""Medians, and how sure the ratio of two of them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians with its 95 % bootstrap interval.

    Attributes:
        value: Median of the numerator over median of the denominator.
        low: 2.5th percentile over resamples.
        high: 97.5th percentile over resamples.
        n: Rounds.
    """

    value: float
    low: float
    high: float
    n: int


def ratio_of_medians(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int = 0
) -> Ratio:
    """The ratio of medians of two interleaved series.

    Rounds are resampled as pairs: both contestants ran within one round, so what slowed the machine
    in that round slowed both, and resampling them together does not count it as uncertainty.

    Args:
        numerator: Seconds of one contestant, one per round.
        denominator: Seconds of the other, in the same rounds.
        seed: Of the resampling.

    Raises:
        ValueError: When the series are empty or differ in length.
    """
    above = np.asarray(numerator, dtype=np.float64)
    below = np.asarray(denominator, dtype=np.float64)
    if above.shape != below.shape or above.size == 0:
        raise ValueError("two series of the same rounds are needed")
    rounds = np.random.default_rng(seed).integers(0, above.size, (RESAMPLES, above.size))
    ratios = np.median(above[rounds], axis=1) / np.median(below[rounds], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    value = float(np.median(above) / np.median(below))
    return Ratio(value, float(low), float(high), int(above.size))
