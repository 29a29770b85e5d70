"""Intervals that cover, overlaps that separate signal from noise, ranks that mind ties."""

from __future__ import annotations

import numpy as np
import pytest
from interpretops.circuits.statistics import (
    bootstrap_stability,
    jaccard,
    mean,
    ratio,
    spearman,
    split_half_stability,
    top_units,
)
from interpretops.errors import InterpretOpsError


def test_ratio_is_of_means_with_an_interval_that_covers() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        bottom = rng.normal(2.0, 0.5, size=40)
        top = 0.6 * bottom + rng.normal(0, 0.3, size=40)
        measured = ratio(top.tolist(), bottom.tolist(), seed=trial)
        assert measured.value == pytest.approx(top.sum() / bottom.sum())
        assert measured.low <= measured.value <= measured.high
        assert measured.n == 40
        covered += measured.low <= 0.6 <= measured.high
    # Nominally 95 %; percentile intervals run a little short at this size.
    assert 0.88 <= covered / 200 <= 0.99


def test_ratio_outlives_pairs_without_effect() -> None:
    """A mean of ratios would be in the millions here."""
    measured = ratio([1.0, 0.5, 1.5, 1.0], [2.0, 1e-9, 4.0, 2.0])
    assert measured.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    "bottom",
    [[0.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 1.0]],
    ids=["all zero", "cancelling", "zero on some resamples"],
)
def test_a_share_of_nothing_is_an_error_and_not_nan(bottom: list[float]) -> None:
    with pytest.raises(InterpretOpsError, match="effect that is 0 has no value") as error:
        ratio([1.0, 0.5, 1.5], bottom)
    assert "\n" not in str(error.value)
    assert "Fix:" in str(error.value)


def test_a_share_of_something_that_is_nothing_is_zero() -> None:
    measured = ratio([0.0, 0.0, 0.0], [2.0, 1.0, 3.0])
    assert (measured.value, measured.low, measured.high) == (0.0, 0.0, 0.0)


def test_mean_of_a_constant_has_no_width() -> None:
    measured = mean([0.25] * 7)
    assert (measured.value, measured.low, measured.high) == (0.25, 0.25, 0.25)


def test_interval_narrows_with_pairs() -> None:
    values = np.random.default_rng(2).normal(size=400)
    few, many = (mean(values[:n].tolist()) for n in (25, 400))
    assert many.high - many.low < (few.high - few.low) / 2


def test_jaccard() -> None:
    a, b = frozenset({1, 2, 3}), frozenset({2, 3, 4, 5})
    assert jaccard(a, b) == 2 / 5
    assert jaccard(a, a) == 1.0
    assert jaccard(a, frozenset({9})) == 0.0


def test_top_units_go_by_absolute_mean() -> None:
    scores = np.array([[1.0, -3.0, 5.0, 0.5], [1.0, -3.0, -5.0, 0.5]])
    assert top_units(scores, 2) == {0, 1}


def test_stability_of_a_signal_and_of_noise() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(30, 60))
    signal = noise + 20 * (np.arange(60) < 6)
    for clear in (
        bootstrap_stability(signal, 6, resamples=12, seed=0),
        split_half_stability(signal, 6, splits=12, seed=0),
    ):
        assert (clear.value, clear.low, clear.high, clear.n) == (1.0, 1.0, 1.0, 12)
    resampled = bootstrap_stability(noise, 6, resamples=12, seed=0)
    halves = split_half_stability(noise, 6, splits=12, seed=0)
    # Two random sixes of sixty share 0.05 of their members; resamples share pairs, so they share more.
    assert halves.value < 0.15
    assert halves.value < resampled.value < 0.6


@pytest.mark.parametrize("decimals", [6, 0])
def test_spearman_correlates_ranks_by_definition_also_on_ties(decimals: int) -> None:
    rng = np.random.default_rng(4)
    first = rng.normal(size=30)
    a, b = np.round(first, decimals), np.round(first + rng.normal(size=30), decimals)
    # A value's rank: how many are below it, and half of those that equal it (itself counted as one).
    ranks = [(x[:, None] > x).sum(1) + ((x[:, None] == x).sum(1) + 1) / 2 for x in (a, b)]
    expected = np.corrcoef(ranks[0], ranks[1])[0, 1]
    assert spearman(a.tolist(), b.tolist()) == pytest.approx(expected)
    assert expected == pytest.approx(0.75, abs=0.2)


def test_spearman_of_order_and_of_constants() -> None:
    assert spearman([1.0, 2.0, 30.0], [0.1, 0.2, 0.3]) == pytest.approx(1.0)
    assert spearman([1.0, 2.0, 30.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert spearman([1.0, 1.0, 1.0], [3.0, 2.0, 1.0]) == 0.0
    assert spearman([1.0], [2.0]) == 0.0
