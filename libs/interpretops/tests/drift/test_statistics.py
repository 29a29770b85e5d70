"""Statistics of counts against SciPy, published figures, and simulations whose truth is known."""

import math

import numpy as np
import pytest
from interpretops.drift import DriftLimits, Sketch, Traffic, Verdict, compare
from interpretops.drift.sketch import FLOOR, GAMMA, LAST, aligned, bucket, lower_end, middle
from interpretops.drift.statistics import (
    benjamini_hochberg,
    bin_ends,
    binned,
    change,
    holm,
    ks,
    psi,
    wilson,
)
from scipy import stats


def test_a_bucket_holds_what_its_ends_say():
    for value in (1e-3, 0.0017, 1.0, 33.3, 9e5):
        for signed in (value, -value):
            index = bucket(signed)
            low = lower_end(index)
            high = lower_end(index + 1) if index != -1 else -FLOOR
            assert low * (1 - 1e-9 * math.copysign(1, low)) <= signed <= high + 1e-9 * abs(high)
            assert abs(middle(index) - signed) <= 0.0101 * value
    assert bucket(0.0) == bucket(9e-4) == bucket(-9e-4) == 0
    assert bucket(math.inf) == bucket(1e300) == -bucket(-math.inf) == LAST
    assert lower_end(2) == pytest.approx(FLOOR * GAMMA)


def test_sketches_of_parts_add_up_to_that_of_the_whole_and_stay_small():
    values = np.random.default_rng(0).normal(0, 1e4, 20_000)
    whole, parts = Sketch.of(values), Sketch()
    for part in np.array_split(values, 7):
        parts.merge(Sketch.of(part))
    assert parts == whole
    assert whole.n == 20_000
    assert len(whole.counts) <= 2 * LAST + 1
    assert whole.above == (values >= FLOOR).sum()
    assert Sketch.of([math.nan]).n == 0
    assert Sketch.model_validate_json(whole.model_dump_json()) == whole
    for share in (0.1, 0.5, 0.9):
        exact = np.quantile(values, share)
        assert whole.quantile(share) == pytest.approx(exact, rel=0.03, abs=200)


@pytest.mark.parametrize("seed", range(5))
def test_ks_of_buckets_is_scipys_of_the_values_in_them(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(-3, 2, 300), rng.normal(-2.6, 2.2, 500)
    ours = ks(*aligned((Sketch.of(a), Sketch.of(b)))[1])
    rounded = [[middle(bucket(v)) for v in values] for values in (a, b)]
    exact = stats.ks_2samp(*rounded, method="asymp")
    assert ours.distance == pytest.approx(exact.statistic, abs=1e-12)
    # SciPy rounds the sample size inside its asymptotic distribution; the limit is the same.
    limit = stats.kstwobign.sf(exact.statistic * math.sqrt(300 * 500 / 800))
    assert ours.p == pytest.approx(limit, rel=1e-9)
    assert ours.distance <= stats.ks_2samp(a, b).statistic + 1e-12


def test_psi_is_the_known_sum_and_its_distribution_is_chi_square():
    p, q = np.array([100, 200, 300, 400]), np.array([150, 250, 250, 350])
    a, b = (p + 0.5) / (p + 0.5).sum(), (q + 0.5) / (q + 0.5).sum()
    found = psi(p, q)
    assert found.value == pytest.approx(stats.entropy(a, b) + stats.entropy(b, a), rel=1e-12)
    assert found.p == pytest.approx(stats.chi2.sf(found.value / (2 / 1000), 3), rel=1e-9)
    rng = np.random.default_rng(1)
    drawn = (rng.multinomial([500, 800], [0.1] * 10) for _ in range(2000))
    indices = [psi(first, second) for first, second in drawn]
    assert np.mean([i.value for i in indices]) == pytest.approx(indices[0].expected, rel=0.05)
    assert np.mean([i.p < 0.05 for i in indices]) == pytest.approx(0.05, abs=0.015)


def test_a_change_of_a_proportion_is_newcombes():
    # Newcombe (1998), table II, examples (a) and (d), method 10.
    found = change(48, 80, 56, 70)
    assert (found.difference, found.low, found.high) == pytest.approx(
        (0.2000, 0.0524, 0.3339), abs=5e-5
    )
    found = change(0, 20, 0, 10)
    assert (found.difference, found.low, found.high) == pytest.approx(
        (0, -0.1611, 0.2775), abs=5e-5
    )
    assert found.p == 1
    table = [[56, 14], [48, 32]]
    pearson = stats.chi2_contingency(table, correction=False).statistic
    assert change(48, 80, 56, 70).p == pytest.approx(
        stats.chi2.sf(pearson * 149 / 150, 1), rel=1e-9
    )
    exact = stats.binomtest(7, 50).proportion_ci(method="wilson")
    assert wilson(7, 50) == pytest.approx((exact.low, exact.high), rel=1e-9)


def test_adjusted_for_many_tests():
    ps = [0.01, 0.04, 0.03, 0.005]
    assert holm(ps) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg(ps) == pytest.approx(list(stats.false_discovery_control(ps)))
    assert holm([]) == benjamini_hochberg([]) == []


def test_bins_hold_equal_shares_of_the_reference_and_none_is_empty():
    rng = np.random.default_rng(3)
    before, after = Sketch.of(rng.normal(-4, 1, 1000)), Sketch.of(rng.normal(9, 1, 10))
    _, table = aligned((before, after))
    bins = binned(table, bin_ends(table[0]))
    assert bins.sum(1).tolist() == [1000, 10]
    assert bins[0] == pytest.approx(np.full(10, 100), abs=25)
    assert bin_ends([0, 0, 50, 0, 0]) == [5]  # all in one place: one bin
    zeros = Sketch.of([0.0] * 900 + list(rng.uniform(1, 2, 100)))
    assert len(bin_ends(aligned((zeros, Sketch()))[1][0])) == 2  # nine tenths cannot be cut


# --- verdicts: how often wrong, how often right ---------------------------------------------------

FEATURES = 6


def traffic(rng, n, *, mean=-4.0, spread=2.0, attacks=0.02, rate=0.3):
    """Requests to a policy: few attacks, and features that fire on some prompts."""
    seen = Traffic()
    attack = rng.random(n) < attacks
    margins = np.where(attack, rng.normal(3, 2, n), rng.normal(mean, spread, n))
    fires = rng.random((n, FEATURES)) < rate
    values = fires * rng.gamma(2, 1, (n, FEATURES))
    for margin, row in zip(margins, values, strict=True):
        seen.see(float(margin), margin > 0, {f"layer18.f{i}": float(v) for i, v in enumerate(row)})
    return seen


def test_verdicts_say_what_was_planted_and_what_to_do():
    rng = np.random.default_rng(0)
    usual = traffic(rng, 400)
    same = compare(usual, traffic(rng, 1000))
    assert same.verdict is Verdict.STABLE
    assert same.score.psi < 0.1
    assert sum(each.reference for each in same.score.bins) == pytest.approx(1)
    moved = compare(usual, traffic(rng, 1000, mean=-1.5))
    assert moved.verdict is Verdict.DRIFTED
    assert "scores moved" in moved.reasons[0]
    assert any("mechctl" in advice for advice in moved.advice)
    attacked = compare(usual, traffic(rng, 1000, attacks=0.15))
    assert attacked.verdict is Verdict.DRIFTED
    assert attacked.condition.difference == pytest.approx(0.12, abs=0.04)
    assert attacked.condition.low > 0
    remade = compare(usual, traffic(rng, 1000, rate=0.6))
    assert remade.verdict is Verdict.DRIFTED
    assert len([each for each in remade.features if each.p < 0.001]) == FEATURES
    assert remade.features[0].psi > 0.25
    few = compare(usual, traffic(rng, 40, mean=9))
    assert few.verdict is Verdict.TOO_FEW
    assert few.condition is not None  # the figures are there all the same
    assert compare(usual, Traffic()).verdict is Verdict.TOO_FEW


def test_a_policy_without_a_condition_has_only_features():
    usual, now = Traffic(), Traffic()
    for i in range(200):
        usual.see(None, True, {"layer3.f1": 0.0})
        now.see(None, True, {"layer3.f1": float(i % 2)})
    found = compare(usual, now)
    assert found.score is None
    assert found.condition is None
    assert found.verdict is Verdict.DRIFTED
    assert found.features[0].difference == 0.5


def test_false_alarms_are_rare_and_planted_drift_is_found():
    rng = np.random.default_rng(7)
    loose = DriftLimits(alpha=0.05, psi_watch=1e-9, firing_change=1e-9, feature_change=1e-9)
    alarms = [
        compare(traffic(rng, 300), traffic(rng, 300), loose).verdict is not Verdict.STABLE
        for _ in range(100)
    ]
    # Without its limits on size, all tests together are wrong no more often than they say.
    assert np.mean(alarms) <= 0.1
    assert not any(
        compare(traffic(rng, 300), traffic(rng, 300)).verdict is Verdict.DRIFTED for _ in range(25)
    )
    found = [
        compare(traffic(rng, 300), traffic(rng, 300, mean=-2.5)).verdict is Verdict.DRIFTED
        for _ in range(25)
    ]
    assert np.mean(found) >= 0.95
