"""Two samples compared, from counts alone, so that nothing but histograms has to be kept.

Sources: PSI and its distribution when nothing changed, Yurdakul and Naranjo, "Statistical properties of
the population stability index" (Journal of Risk Model Validation 14(4), 2020). Kolmogorov and Smirnov's
statistic over bucket ends, which is never larger than over the values themselves, so the test never
claims more than the exact one. Difference of two proportions: interval by Newcombe's hybrid of Wilson
scores (Statistics in Medicine 17, 1998, method 10); test by Campbell's N-1 chi-square (ibid. 26, 2007).
Many tests: Holm (1979) where none may be wrong, Benjamini and Hochberg (1995) where a share may.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtrc, kolmogorov

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

BINS = 10
"""Bins of the population stability index: tenths of the reference, as is customary."""
_Z = 1.959963984540054


@dataclass(frozen=True)
class Psi:
    """A population stability index.

    Attributes:
        value: The sum over bins of `(q - p) ln(q / p)`.
        expected: What it is on average when nothing changed: chance alone makes it positive.
        p: Probability of one at least as large when nothing changed.
        bins: How many bins.
    """

    value: float
    expected: float
    p: float
    bins: int


@dataclass(frozen=True)
class Ks:
    """A two-sample Kolmogorov-Smirnov test: the largest distance of two distribution functions."""

    distance: float
    p: float


@dataclass(frozen=True)
class Change:
    """A proportion after less the one before, with its 95 % interval and a test of no change."""

    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float


def bin_ends(reference: ArrayLike, bins: int = BINS) -> list[int]:
    """Where to cut ordered buckets so that every bin holds about the same share of the reference.

    A bucket goes, whole, where its middle falls; one that the reference leaves empty goes with the
    bucket before it.

    Args:
        reference: Counts of the reference, `[buckets]`.
        bins: How many bins are wanted; there are fewer where a bucket holds more than one's share.

    Returns:
        Ends of the bins, exclusive; the last is the number of buckets.
    """
    counts = np.asarray(reference, dtype=np.int64)
    total, seen, ends, last = int(counts.sum()), 0, list[int](), None
    for place, count in enumerate(counts.tolist()):
        if count == 0:
            continue
        at = int((seen + count / 2) * bins / total)
        if last is not None and at != last:
            ends.append(place)
        seen, last = seen + count, at
    return [*ends, len(counts)]


def binned(counts: ArrayLike, ends: Sequence[int]) -> NDArray[np.int64]:
    """Counts of buckets `[..., buckets]` added up within bins `[..., bins]`."""
    table = np.asarray(counts, dtype=np.int64)
    starts = [0, *ends[:-1]]
    parts = [table[..., a:b].sum(-1) for a, b in zip(starts, ends, strict=True)]
    return np.stack(parts, axis=-1)


def psi(reference: ArrayLike, window: ArrayLike) -> Psi:
    """The population stability index of two samples in the same bins, `[bins]` each.

    Half an observation is added to every bin, so that an empty one does not make it infinite.
    Asymptotically `psi / (1/n + 1/m)` is chi-square with one degree of freedom less than bins when
    nothing changed, whatever the shares of the bins.

    Raises:
        ValueError: When a sample is empty.
    """
    p, q = np.asarray(reference, dtype=float), np.asarray(window, dtype=float)
    n, m = p.sum(), q.sum()
    if n <= 0 or m <= 0:
        raise ValueError("a sample is empty")
    kept = (p > 0) | (q > 0)
    p, q, bins = p[kept] + 0.5, q[kept] + 0.5, int(kept.sum())
    p, q = p / p.sum(), q / q.sum()
    value = float(((q - p) * np.log(q / p)).sum())
    scale = 1 / n + 1 / m
    chance = float(chdtrc(bins - 1, value / scale)) if bins > 1 else 1.0
    return Psi(value, float((bins - 1) * scale), chance, bins)


def ks(reference: ArrayLike, window: ArrayLike) -> Ks:
    """Kolmogorov and Smirnov's test of two samples in the same ordered buckets, `[buckets]` each.

    Raises:
        ValueError: When a sample is empty.
    """
    a, b = np.asarray(reference, dtype=float), np.asarray(window, dtype=float)
    n, m = a.sum(), b.sum()
    if n <= 0 or m <= 0:
        raise ValueError("a sample is empty")
    distance = float(np.abs(a.cumsum() / n - b.cumsum() / m).max())
    return Ks(distance, float(kolmogorov(distance * math.sqrt(n * m / (n + m)))))


def change(before: int, n: int, after: int, m: int) -> Change:
    """How a proportion changed, from `before` of `n` to `after` of `m`.

    Raises:
        ValueError: When a sample is empty.
    """
    if n <= 0 or m <= 0:
        raise ValueError("a sample is empty")
    p, q = before / n, after / m
    (p_low, p_high), (q_low, q_high) = wilson(before, n), wilson(after, m)
    difference = q - p
    low = difference - math.hypot(q - q_low, p_high - p)
    high = difference + math.hypot(q_high - q, p - p_low)
    total, pooled = n + m, (before + after) / (n + m)
    spread = pooled * (1 - pooled) * (1 / n + 1 / m)
    chi = 0.0 if spread == 0 else difference**2 / spread * (total - 1) / total
    return Change(p, q, difference, low, high, float(chdtrc(1, chi)))


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion."""
    share, z2 = count / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted so that with any cut-off the chance of a single false one is at most that."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Adjusted so that with any cut-off the expected share of false ones is at most that."""
    order = sorted(range(len(ps)), key=lambda i: -ps[i])
    adjusted, smallest = [0.0] * len(ps), 1.0
    for rank, i in enumerate(order):
        smallest = min(smallest, ps[i] * len(ps) / (len(ps) - rank))
        adjusted[i] = smallest
    return adjusted
