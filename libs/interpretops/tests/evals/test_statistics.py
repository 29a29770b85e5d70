from __future__ import annotations

import numpy as np
import pytest
from interpretops.evals.statistics import (
    Estimate,
    bootstrap,
    bootstrap_median,
    difference,
    relative_drop,
    worst,
)


def test_interval_of_a_proportion_is_jeffreys() -> None:
    # Beta(3.5, 17.5) quantiles, from tables: 0.0441, 0.3538 for k=3, n=20.
    found = bootstrap([1.0] * 3 + [0.0] * 17, resamples=40_000)
    assert found.value == pytest.approx(0.15)
    assert found.low == pytest.approx(0.0441, abs=0.006)
    assert found.high == pytest.approx(0.3538, abs=0.01)


@pytest.mark.parametrize(("p", "n"), [(0.05, 40), (0.3, 30), (0.9, 60)])
def test_intervals_of_proportions_cover_the_truth(p: float, n: int) -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(300):
        found = bootstrap(rng.random(n) < p, seed=trial, resamples=400)
        covered += found.low <= p <= found.high
    assert 0.90 <= covered / 300 <= 0.995


def test_intervals_of_a_paired_relative_drop_cover_the_truth() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        before = rng.random(80) < 0.8
        after = before & (rng.random(80) < 0.25)  # a true drop of 0.75
        found = bootstrap(np.stack([before, after], 1), relative_drop, seed=trial, resamples=400)
        covered += found.low <= 0.75 <= found.high
    assert 0.90 <= covered / 300 <= 0.995


def test_clusters_widen_the_interval_and_keep_coverage() -> None:
    rng = np.random.default_rng(5)
    covered = covered_naively = 0
    for trial in range(200):
        rates = rng.beta(2, 2, size=20)
        values = (rng.random((20, 10)) < rates[:, None]).ravel()
        topics = [f"t{i}" for i in range(20) for _ in range(10)]
        found = bootstrap(values, clusters=topics, seed=trial, resamples=400)
        naive = bootstrap(values, seed=trial, resamples=400)
        covered += found.low <= 0.5 <= found.high
        covered_naively += naive.low <= 0.5 <= naive.high
        assert found.clusters == 20
        assert naive.clusters is None
    assert covered / 200 >= 0.88
    assert covered_naively < covered


def test_agreement_of_all_observations_is_not_certainty() -> None:
    none = bootstrap([0.0] * 20)
    assert none.value == none.low == 0.0
    assert 0.05 < none.high < 0.2
    full = bootstrap([[1.0, 0.0]] * 20, relative_drop)
    assert full.value == full.high == 1.0
    assert full.low < 0.97


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap(values, seed=4) == bootstrap(values, seed=4)
    assert bootstrap(values, seed=4) != bootstrap(values, seed=5)


def test_median_interval_covers_and_is_robust_to_one_outlier() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        found = bootstrap_median(rng.lognormal(0.1, 0.2, size=25), seed=trial, resamples=400)
        covered += found.low <= np.exp(0.1) <= found.high
    assert covered / 200 >= 0.88
    assert bootstrap_median([1.0, 1.01, 0.99, 1.0, 50.0]).value == 1.0


@pytest.mark.parametrize(
    ("before", "after", "drop"),
    [(0.8, 0.2, 0.75), (0.5, 0.5, 0.0), (0.0, 0.0, 0.0), (0.0, 0.3, -1.0), (0.1, 0.9, -1.0)],
)
def test_relative_drop(before: float, after: float, drop: float) -> None:
    assert relative_drop(np.array([[before, after]]))[0] == pytest.approx(drop)


def test_difference_is_second_less_first() -> None:
    assert bootstrap([[0.0, 1.0], [1.0, 1.0]], difference).value == 0.5


def test_worst_is_not_narrower_than_what_it_was_picked_from() -> None:
    a = Estimate(value=0.03, low=0.0, high=0.05, n=100)
    b = Estimate(value=0.01, low=0.0, high=0.30, n=5)
    assert worst([a, b]).value == 0.03
    assert worst([a, b]).high == 0.30


@pytest.mark.parametrize("bad", [[], [float("nan")], [1.0, float("inf")]])
def test_nothing_is_estimated_from_nothing(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="observation"):
        bootstrap(bad)
