"""Traffic against a reference: what changed, whether it is more than chance, and what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from interpretops.drift import statistics
from interpretops.drift.sketch import aligned, lower_end

if TYPE_CHECKING:
    from interpretops.drift.sketch import Sketch
    from interpretops.drift.traffic import Traffic


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DriftLimits(_Part):
    """From when on something counts as drift.

    A change counts where it is more than chance (`alpha`, over all tests of the comparison together)
    and large enough to matter. With little traffic the first decides, with much the second.

    Attributes:
        alpha: The chance that a comparison finds any drift where there is none.
        psi_watch: Population stability index of the scores from which one should look.
        psi_drift: The same from which what was measured of the policy no longer speaks of its traffic.
        firing_change: Change of the share of requests on which the policy acts.
        feature_change: Change of the share of prompts on which a feature fires.
        requests: Below so many requests there is no verdict.
    """

    alpha: float = Field(default=0.001, gt=0, le=0.1)
    psi_watch: float = Field(default=0.1, gt=0)
    psi_drift: float = Field(default=0.25, gt=0)
    firing_change: float = Field(default=0.05, gt=0, le=1)
    feature_change: float = Field(default=0.1, gt=0, le=1)
    requests: int = Field(default=100, ge=10)


class Verdict(StrEnum):
    """What came of a comparison."""

    TOO_FEW = "too_few"
    STABLE = "stable"
    WATCH = "watch"
    DRIFTED = "drifted"


class Bin(_Part):
    """A range of scores, and the share of either side in it.

    Attributes:
        low: Its lower end, as a distance from the threshold; None where there is none.
        high: Its upper end, likewise.
        reference: Share of the reference in it.
        window: Share of the window in it.
    """

    low: float | None = None
    high: float | None = None
    reference: float
    window: float


class ScoreShift(_Part):
    """How the distribution of the condition's scores moved.

    Attributes:
        psi: Population stability index, over tenths of the reference.
        psi_expected: What it would be on average by chance alone.
        psi_p: Chance of one at least as large when nothing changed.
        ks: Largest distance of the two distribution functions.
        ks_p: Chance of one at least as large when nothing changed.
        bins: The tenths.
    """

    psi: float
    psi_expected: float
    psi_p: float
    ks: float
    ks_p: float
    bins: tuple[Bin, ...]


class RateShift(_Part):
    """How often something fired, before and now.

    Attributes:
        unit: A feature, such as `layer18.f471`, or `condition`.
        reference: Share of the reference's requests.
        window: Share of the window's requests.
        difference: The latter less the former.
        low: Lower end of the difference's 95 % interval.
        high: Upper end of it.
        p: Chance of such a difference when nothing changed, adjusted for all tests of the
            comparison (Holm).
        q: The expected share of false ones among features with this or a smaller one (Benjamini
            and Hochberg).
        psi: Population stability index of the activations, for a feature.
    """

    unit: str
    reference: float
    window: float
    difference: float
    low: float
    high: float
    p: float
    q: float
    psi: float | None = None


class DriftReport(_Part):
    """What came of comparing a window with a reference.

    Attributes:
        verdict: In a word.
        reasons: What it rests on, as sentences.
        advice: What to do, as sentences.
        requests: Of the window.
        reference_requests: Of the reference.
        score: How the scores moved; None where the policy has no condition.
        condition: How often the policy acted; None where it has no condition.
        features: How often its features fired, those that changed most first.
        limits: What the verdict was measured by.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    requests: int
    reference_requests: int
    score: ScoreShift | None = None
    condition: RateShift | None = None
    features: tuple[RateShift, ...] = ()
    limits: DriftLimits = DriftLimits()


def compare(reference: Traffic, window: Traffic, limits: DriftLimits | None = None) -> DriftReport:
    """Compare what a policy saw in a window with a reference.

    Args:
        reference: What is usual.
        window: What is looked at.
        limits: From when on something counts.
    """
    limits = limits or DriftLimits()
    fewest = min(reference.requests, window.requests)
    if fewest == 0:
        return _report(
            Verdict.TOO_FEW, reference, window, limits, [_too_few(reference, window, limits)]
        )
    score = _score(reference.margins, window.margins)
    raw = [] if score is None else [score.ks_p]
    condition = None
    if score is not None:
        condition = statistics.change(
            reference.fired, reference.requests, window.fired, window.requests
        )
        raw.append(condition.p)
    shared = sorted(reference.features.keys() & window.features.keys())
    firing = {unit: _firing(reference.features[unit], window.features[unit]) for unit in shared}
    firing = {unit: found for unit, found in firing.items() if found is not None}
    raw += [found.p for found in firing.values() if found is not None]
    adjusted = statistics.holm(raw)
    of_features = len(raw) - len(firing)
    qs = statistics.benjamini_hochberg(raw[of_features:])
    features = [
        _rate(unit, found, p, q, reference.features[unit], window.features[unit])
        for (unit, found), p, q in zip(firing.items(), adjusted[of_features:], qs, strict=True)
        if found is not None
    ]
    features.sort(key=lambda each: -abs(each.difference))
    acted = None if condition is None else _rate("condition", condition, adjusted[1], adjusted[1])
    ks_p = adjusted[0] if score is not None else 1.0
    verdict, reasons = _judge(score, ks_p, acted, features, limits)
    if fewest < limits.requests:
        verdict, reasons = Verdict.TOO_FEW, [_too_few(reference, window, limits)]
    return _report(verdict, reference, window, limits, reasons, score, acted, features)


def _report(
    verdict: Verdict,
    reference: Traffic,
    window: Traffic,
    limits: DriftLimits,
    reasons: list[str],
    score: ScoreShift | None = None,
    condition: RateShift | None = None,
    features: list[RateShift] | None = None,
) -> DriftReport:
    return DriftReport(
        verdict=verdict,
        reasons=tuple(reasons),
        advice=tuple(_advice(verdict, score, condition, features or [], limits)),
        requests=window.requests,
        reference_requests=reference.requests,
        score=score,
        condition=condition,
        features=tuple(features or ()),
        limits=limits,
    )


def _score(reference: Sketch, window: Sketch) -> ScoreShift | None:
    buckets, table = aligned((reference, window))
    before, after = table
    if not before.sum() or not after.sum():
        return None
    ends = statistics.bin_ends(before)
    bins = statistics.binned(table, ends)
    shares = bins / bins.sum(1, keepdims=True)
    cuts = [lower_end(buckets[end]) for end in ends[:-1]]
    index, tested = statistics.psi(*bins), statistics.ks(before, after)
    return ScoreShift(
        psi=index.value,
        psi_expected=index.expected,
        psi_p=index.p,
        ks=tested.distance,
        ks_p=tested.p,
        bins=tuple(
            Bin(low=low, high=high, reference=float(p), window=float(q))
            for low, high, p, q in zip([None, *cuts], [*cuts, None], *shares, strict=True)
        ),
    )


def _firing(reference: Sketch, window: Sketch) -> statistics.Change | None:
    if not reference.counts or not window.counts:
        return None
    return statistics.change(reference.above, reference.n, window.above, window.n)


def _rate(
    unit: str,
    found: statistics.Change,
    p: float,
    q: float,
    reference: Sketch | None = None,
    window: Sketch | None = None,
) -> RateShift:
    index = None
    if reference is not None and window is not None:
        _, table = aligned((reference, window))
        bins = statistics.binned(table, statistics.bin_ends(table[0]))
        index = statistics.psi(*bins).value
    return RateShift(
        unit=unit,
        reference=found.before,
        window=found.after,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=p,
        q=q,
        psi=index,
    )


# --- what to make of it ---------------------------------------------------------------------------


def _judge(
    score: ScoreShift | None,
    ks_p: float,
    condition: RateShift | None,
    features: list[RateShift],
    limits: DriftLimits,
) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons."""
    verdict, reasons = Verdict.STABLE, list[str]()
    if score is not None and ks_p < limits.alpha and score.psi >= limits.psi_watch:
        large = score.psi >= limits.psi_drift
        verdict = Verdict.DRIFTED if large else Verdict.WATCH
        reasons.append(
            f"the condition's scores moved: PSI {score.psi:.2f} (by chance {score.psi_expected:.2f}; "
            f"limit {limits.psi_drift if large else limits.psi_watch:g}), KS {score.ks:.2f}"
        )
    if condition is not None and _counts(condition, limits.firing_change, limits):
        verdict = Verdict.DRIFTED
        reasons.append(
            f"the policy acts on {condition.window:.1%} of requests instead of "
            f"{condition.reference:.1%} ({_points(condition)})"
        )
    changed = [each for each in features if _counts(each, limits.feature_change, limits)]
    if changed:
        many = len(changed) * 2 > len(features)
        verdict = max(verdict, Verdict.DRIFTED if many else Verdict.WATCH, key=_ORDER.index)
        first = changed[0]
        reasons.append(
            f"{len(changed)} of {len(features)} features fire more or less often than they did, most "
            f"of all {first.unit}: {first.window:.0%} of prompts instead of {first.reference:.0%} "
            f"({_points(first)})"
        )
    return verdict, reasons or ["nothing changed by more than the limits allow"]


_ORDER = [Verdict.TOO_FEW, Verdict.STABLE, Verdict.WATCH, Verdict.DRIFTED]


def _counts(shift: RateShift, least: float, limits: DriftLimits) -> bool:
    return shift.p < limits.alpha and abs(shift.difference) >= least


def _points(shift: RateShift) -> str:
    return f"{100 * shift.difference:+.1f} points [{100 * shift.low:+.1f}, {100 * shift.high:+.1f}]"


def _too_few(reference: Traffic, window: Traffic, limits: DriftLimits) -> str:
    return (
        f"a verdict needs {limits.requests} requests on either side; the reference has "
        f"{reference.requests} and the window {window.requests}"
    )


def _advice(
    verdict: Verdict,
    score: ScoreShift | None,
    condition: RateShift | None,
    features: list[RateShift],
    limits: DriftLimits,
) -> list[str]:
    """What to do about it."""
    if verdict is Verdict.TOO_FEW:
        return ["wait for more requests, or take a longer window"]
    if verdict is Verdict.STABLE:
        return ["nothing: the policy's evidence still speaks of this traffic"]
    told = []
    if condition is not None and _counts(condition, limits.firing_change, limits):
        if condition.difference > 0:
            told.append(
                "find out what fires: more attacks, or harmless prompts of a new kind; the canary of "
                "over-refusals (`mechctl eval`) tells them apart"
            )
        else:
            told.append(
                "run the red-team suite (`mechctl eval`): attacks may get past a condition that "
                "fires less"
            )
    if score is not None and score.psi >= limits.psi_watch:
        told.append(
            "evaluate the policy on prompts like those that come now, and fit it to them again where "
            "it misses its criteria (`mechctl policy propose`)"
        )
    if any(_counts(each, limits.feature_change, limits) for each in features):
        told.append(
            "see whether the model or its chat template was changed; features that fire at another "
            "rate on the same kind of prompt may no longer mean what they did"
        )
    if verdict is Verdict.DRIFTED:
        told.append("until then treat the Risk Card's figures as those of other traffic")
    return told
