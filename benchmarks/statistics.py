"""Medians and areas under curves, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Auroc:
    """How often a positive scores above a negative (ties count half), with its 95 % interval.

    Attributes:
        value: The share of pairs.
        low: 2.5th percentile over resamples of the groups.
        high: 97.5th percentile.
        positives: How many.
        negatives: How many.
    """

    value: float
    low: float
    high: float
    positives: int
    negatives: int


def stratified_auroc(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    strata: NDArray[np.int64],
    groups: NDArray[np.str_],
    *,
    seed: int = 0,
) -> Auroc | None:
    """AUROC over pairs of a positive and a negative of the same stratum.

    Args:
        scores: `[n]`.
        positive: `[n]`.
        strata: `[n]`, what must be equal for two to be compared.
        groups: `[n]`, what belongs together and is resampled together.
        seed: Of the resampling.

    Returns:
        None where no two can be compared.
    """
    comparable = strata[positive][:, None] == strata[~positive]
    if not comparable.any():
        return None
    above = scores[positive][:, None] - scores[~positive]
    won = comparable * ((above > 0) + 0.5 * (above == 0))
    # Sums by group, so that a resample is a weighting of groups: [groups, groups] each.
    names, member = np.unique(groups, return_inverse=True)
    of_group = np.eye(len(names))[member]
    by_group = [of_group[positive].T @ pairs @ of_group[~positive] for pairs in (won, comparable)]
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), RESAMPLES
    )
    sums = [np.einsum("ri,ij,rj->r", draws, pairs, draws, optimize=True) for pairs in by_group]
    drawn = sums[1] > 0
    low, high = np.percentile(sums[0][drawn] / sums[1][drawn], [2.5, 97.5])
    return Auroc(
        value=float(won.sum() / comparable.sum()),
        low=float(low),
        high=float(high),
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
    )
