import numpy as np
import pytest

from benchmarks.statistics import ratio_of_medians, stratified_auroc


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


def _auroc(scores, positive, strata, groups=None):
    n = len(scores)
    return stratified_auroc(
        np.array(scores, dtype=float),
        np.array(positive, dtype=bool),
        np.array(strata),
        np.array(groups if groups is not None else [str(i) for i in range(n)]),
    )


def test_auroc_is_the_share_of_pairs_with_ties_half():
    found = _auroc([3, 1, 2, 1, 0], [1, 1, 0, 0, 0], [0] * 5)
    assert found.value == pytest.approx((3 + 0 + 0.5 + 1) / 6)
    assert (found.positives, found.negatives) == (2, 3)


def test_what_raises_a_whole_stratum_is_not_counted():
    scores, positive = [10, 11, 10, 0, 1, 0], [1, 1, 0, 1, 0, 0]
    assert _auroc(scores, positive, [0] * 6).value == pytest.approx((2.5 + 3 + 0.5) / 9)
    apart = _auroc(scores, positive, [0, 0, 0, 1, 1, 1])
    assert apart.value == pytest.approx((0.5 + 1 + 0 + 0.5) / 4)


def test_strata_without_both_kinds_give_no_auroc():
    assert _auroc([1, 2], [1, 0], [0, 1]) is None


def test_the_interval_of_an_auroc_brackets_it():
    random = np.random.default_rng(0)
    positive = random.random(300) < 0.4
    topic = random.integers(0, 10, 300)
    scores = random.normal(size=300) + positive + random.normal(size=10)[topic]
    each = _auroc(scores, positive, np.zeros(300))
    by_topic = _auroc(scores, positive, np.zeros(300), topic.astype(str))
    assert each.low < each.value == by_topic.value < each.high
    assert by_topic.low < by_topic.value < by_topic.high
    assert each.value == pytest.approx(0.69, abs=0.1)
