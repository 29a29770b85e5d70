import numpy as np
import pytest

from benchmarks.statistics import ratio_of_medians


def test_ratio_is_of_medians_not_of_means():
    ratio = ratio_of_medians([2.0, 2.0, 50.0], [1.0, 1.0, 1.0])
    assert ratio.value == 2.0
    assert ratio.n == 3


def test_interval_brackets_a_known_ratio():
    random = np.random.default_rng(1)
    slow = 3.0 + random.normal(0, 0.1, 200)
    fast = 2.0 + random.normal(0, 0.1, 200)
    ratio = ratio_of_medians(slow, fast)
    assert ratio.low < 1.5 < ratio.high
    assert 1.4 < ratio.low < ratio.value < ratio.high < 1.6


def test_no_difference_leaves_one_inside_the_interval():
    random = np.random.default_rng(2)
    ratio = ratio_of_medians(1 + random.random(40), 1 + random.random(40))
    assert ratio.low < 1 < ratio.high


def test_drift_that_both_share_does_not_widen_the_interval():
    drift = np.linspace(1, 3, 15)  # the machine becomes three times slower on the way
    ratio = ratio_of_medians(1.05 * drift, drift)
    assert ratio.low > 1
    assert ratio.high - ratio.low < 1e-9


def test_same_seed_same_interval():
    series = [1.0, 1.2, 0.9, 1.1], [1.0, 0.8, 1.1, 1.3]
    assert ratio_of_medians(*series) == ratio_of_medians(*series)


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], [1.0, 2.0])])
def test_series_that_are_no_rounds_are_refused(above, below):
    with pytest.raises(ValueError, match="same rounds"):
        ratio_of_medians(above, below)
