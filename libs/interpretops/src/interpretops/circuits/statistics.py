"""Uncertainty of a circuit: bootstrap over pairs, overlap of resampled circuits, rank correlation."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from interpretops.circuits.graph import Measured
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RESAMPLES = 1000


def ratio(numerator: Sequence[float], denominator: Sequence[float], seed: int = 0) -> Measured:
    """A ratio of means over the same pairs, with its percentile bootstrap interval.

    The ratio of means, not the mean of ratios: single pairs whose effect is near zero would make the
    latter meaningless.

    Raises:
        InterpretOpsError: When the denominator's mean is 0, over all pairs or over a resample of
            them: the share, or a bound of it, then has no value.
    """
    top, bottom = np.asarray(numerator, float), np.asarray(denominator, float)
    picks = np.random.default_rng(seed).integers(0, len(top), (RESAMPLES, len(top)))
    resampled = bottom[picks].mean(1)
    if bottom.mean() == 0 or (resampled == 0).any():
        raise InterpretOpsError(
            f"a share of an effect that is 0 has no value (0 for {int((bottom == 0).sum())} of "
            f"{len(bottom)} pairs)",
            fix="give pairs on which the behaviour differs, or more of them",
        )
    values = top[picks].mean(1) / resampled
    low, high = np.quantile(values, (0.025, 0.975))
    return Measured(
        value=float(top.mean() / bottom.mean()), low=float(low), high=float(high), n=len(top)
    )


def mean(values: Sequence[float], seed: int = 0) -> Measured:
    """A mean with its percentile bootstrap interval."""
    return ratio(values, [1.0] * len(values), seed)


def top_units(scores: Array, size: int) -> frozenset[int]:
    """Columns of `[pairs, units]` with the largest absolute mean score."""
    return frozenset(np.argsort(-np.abs(scores.mean(0)), kind="stable")[:size].tolist())


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Shared members over all members."""
    return len(a & b) / len(a | b)


def bootstrap_stability(scores: Array, size: int, *, resamples: int, seed: int) -> Measured:
    """Mean pairwise Jaccard overlap of circuits of `size` units found on resamples of the pairs.

    The interval holds 95 % of the pairwise overlaps, `n` is the number of circuits. Resamples share
    pairs, so this is the optimistic figure; `split_half_stability` is the strict one.
    """
    rng = np.random.default_rng(seed)
    n = len(scores)
    circuits = [top_units(scores[rng.integers(0, n, n)], size) for _ in range(resamples)]
    return _spread([jaccard(a, b) for a, b in combinations(circuits, 2)], resamples)


def split_half_stability(scores: Array, size: int, *, splits: int, seed: int) -> Measured:
    """Mean Jaccard overlap of circuits found on disjoint random halves of the pairs.

    The interval holds 95 % of the overlaps, `n` is the number of splits.
    """
    rng = np.random.default_rng(seed)
    n, overlaps = len(scores), []
    for _ in range(splits):
        order = rng.permutation(n)
        a, b = order[: n // 2], order[n // 2 :]
        overlaps.append(jaccard(top_units(scores[a], size), top_units(scores[b], size)))
    return _spread(overlaps, splits)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation, tied values sharing their mean rank; 0 where either side is constant."""
    ranks = [_ranks(x) for x in (a, b)]
    if len(a) < 2 or any(np.ptp(np.asarray(x)) == 0 for x in (a, b)):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Sequence[float]) -> Array:
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    shared: Array = np.cumsum(counts) - (counts - 1) / 2
    return shared[place]


def _spread(overlaps: Sequence[float], n: int) -> Measured:
    low, high = np.quantile(overlaps, (0.025, 0.975))
    return Measured(value=float(np.mean(overlaps)), low=float(low), high=float(high), n=n)
