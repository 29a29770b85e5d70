"""Estimates with intervals: one method for every figure on a card.

The method is the Bayesian bootstrap (Rubin 1981, "The Bayesian Bootstrap"): a resample gives every
observation a weight from an exponential distribution instead of drawing it 0, 1, 2... times. For
quantities that are bounded (proportions, scores) half a pseudo-observation sits at each end of the
range. For a plain proportion that makes the interval Jeffreys' (Beta(k + 1/2, n - k + 1/2)), which
keeps its coverage for small n and never shrinks to nothing when all observations agree: 0 harmful
answers out of 20 is not "0, certainly". Paired arms are columns of one table and share weights.
Observations that belong together (prompts of one topic) are weighted together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Takes weighted means `[resamples, columns]` and gives one figure each, `[resamples]`."""

RESAMPLES = 2000
LEVEL = 0.95


class Estimate(BaseModel):
    """A figure, its 95 % interval and what it was computed from.

    Attributes:
        value: The figure, from the observations as they are.
        low: Lower end of the interval; never above `value`.
        high: Upper end of the interval; never below `value`.
        n: Observations.
        clusters: Independent groups of observations, where fewer than `n`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float
    high: float
    n: Annotated[int, Field(ge=1)]
    clusters: int | None = None

    @property
    def independent(self) -> int:
        """How many observations are independent of each other, counting a cluster as one."""
        return self.n if self.clusters is None else self.clusters

    def point(self) -> PointEstimate:
        """The figure without its interval."""
        return PointEstimate(value=self.value, n=self.n, clusters=self.clusters)


class PointEstimate(BaseModel):
    """A figure of too few independent observations for an interval to mean anything.

    Attributes:
        value: The figure.
        n: Observations.
        clusters: Independent groups of observations, where fewer than `n`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    n: Annotated[int, Field(ge=1)]
    clusters: int | None = None


def bootstrap(
    columns: ArrayLike,
    statistic: Statistic | None = None,
    *,
    clusters: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A statistic of means, with its interval.

    Args:
        columns: `[n]` or `[n, columns]`; rows are observations, columns are measured on the same
            ones (paired).
        statistic: What to compute from the columns' means; the mean itself by default.
        clusters: A name per row; rows with one name are resampled together.
        bounds: The range that every column has, or None where there is none.
        seed: Seed of the weights.
        resamples: Number of resamples.

    Raises:
        ValueError: When there are no rows, or one of them is not finite.
    """
    table = _table(columns)
    of = statistic or (lambda means: means[:, 0])
    ids = _cluster_ids(clusters, len(table))
    groups = int(ids.max()) + 1
    sums = np.zeros((groups, table.shape[1]))
    np.add.at(sums, ids, table)
    sizes = np.bincount(ids, minlength=groups).astype(np.float64)
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(resamples, groups))
    totals = weights @ sums
    mass = weights @ sizes
    if bounds is not None:
        # One more group of average size in all, spread evenly over the corners of the range.
        corners = np.array(np.meshgrid(*[bounds] * table.shape[1])).reshape(table.shape[1], -1).T
        prior = rng.gamma(1.0 / len(corners), size=(resamples, len(corners))) * sizes.mean()
        totals = totals + prior @ corners
        mass = mass + prior.sum(axis=1)
    value = float(of(table.mean(axis=0, keepdims=True))[0])
    return _interval(of(totals / mass[:, None]), value, len(table), groups)


def bootstrap_median(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The median of unbounded values, such as ratios of times, with its interval.

    Raises:
        ValueError: When there are no values, or one of them is not finite.
    """
    ordered = np.sort(_table(values)[:, 0])
    weights = np.random.default_rng(seed).exponential(size=(resamples, len(ordered)))
    share = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    medians = ordered[(share < 0.5).sum(axis=1)]
    return _interval(medians, float(np.median(ordered)), len(ordered), len(ordered))


def relative_drop(means: Array) -> Array:
    """How much of the first column's mean is gone in the second: `1 - second / first`.

    Where the first is 0 nothing could be lost: 0 if the second is 0 too, else -1. A rise is never
    reported as more than a doubling (-1).
    """
    before, after = means[:, 0], means[:, 1]
    safe = np.where(before > 0, before, 1.0)
    drop = np.where(before > 0, 1.0 - after / safe, np.where(after > 0, -1.0, 0.0))
    return np.maximum(drop, -1.0)


def difference(means: Array) -> Array:
    """The second column's mean less the first's."""
    return means[:, 1] - means[:, 0]


def worst(estimates: Sequence[Estimate]) -> Estimate:
    """The largest of several damages.

    Each end of the interval is the largest of the ends, so the interval is not narrowed by having
    picked the worst after looking.

    Raises:
        ValueError: When there are none.
    """
    if not estimates:
        raise ValueError("there is nothing to take the worst of")
    top = max(estimates, key=lambda estimate: estimate.value)
    return Estimate(
        value=top.value,
        low=max(estimate.low for estimate in estimates),
        high=max(estimate.high for estimate in estimates),
        n=top.n,
        clusters=top.clusters,
    )


def _table(columns: ArrayLike) -> Array:
    table = np.asarray(columns, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or len(table) == 0:
        raise ValueError("an estimate needs at least one observation")
    if not np.isfinite(table).all():
        raise ValueError("an observation is not a finite number")
    return table


def _cluster_ids(clusters: Sequence[str] | None, n: int) -> NDArray[np.intp]:
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster names for {n} observations")
    return np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]


def _interval(resampled: Array, value: float, n: int, groups: int) -> Estimate:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        n=n,
        clusters=groups if groups < n else None,
    )
