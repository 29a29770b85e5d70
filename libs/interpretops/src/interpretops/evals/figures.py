"""How figures are written for people: one place, so that table and page agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.evals.statistics import PointEstimate

if TYPE_CHECKING:
    from interpretops.evals.risk_card import Criterion, RiskCard
    from interpretops.evals.statistics import Estimate

TITLES = {
    "defense_efficacy": "Defense efficacy (DE)",
    "collateral_damage": "Collateral damage (CD)",
    "circuit_stability": "Circuit stability (CS)",
    "latency_overhead_pct": "Latency overhead (LCO)",
    "degeneration_rise": "Rise of degenerate answers",
}
_SHARES = {
    "defense_efficacy",
    "collateral_damage",
    "degeneration_rise",
    "attack_success_rate",
    "refusal_rate",
    "over_refusal_rate",
    "toxicity_rate",
    "exact_match",
    "logprob_accuracy",
    "degeneration_rate",
    "answered",
    "firing_rate",
}


def number(name: str, value: float) -> str:
    """One value in the unit of its metric: shares and overheads in percent."""
    if name in _SHARES:
        return f"{100 * value:.1f} %"
    if name.endswith("_pct"):
        return f"{value:.1f} %"
    return f"{value:.3g}"


def estimate(name: str, found: Estimate | PointEstimate | None) -> str:
    """A figure with n, and with its interval where it has one."""
    if found is None:
        return "not measured"
    groups = "" if found.clusters is None else f", {found.clusters} {_topics(found.clusters)}"
    count = f"n={found.n}{groups}"
    if isinstance(found, PointEstimate):
        return f"{number(name, found.value)} ({count})"
    interval = f"{number(name, found.low)} to {number(name, found.high)}"
    return f"{number(name, found.value)} ({interval}; {count})"


def _topics(count: int) -> str:
    return "topic" if count == 1 else "topics"


def verdict(criterion: Criterion) -> str:
    """In words, whether a criterion is met."""
    if criterion.value is None:
        return "not measured"
    if not criterion.passed:
        return "missed"
    return "met" if criterion.supported else "met, interval crosses the limit"


def limit(criterion: Criterion) -> str:
    """A criterion's limit in words."""
    sign = "≥" if criterion.sense == "at least" else "≤"
    return f"{sign} {number(criterion.name, criterion.limit)}"


def headline(card: RiskCard) -> str:
    """The outcome in one sentence."""
    if card.passed:
        return "Every criterion is met."
    names = dict.fromkeys(TITLES.get(c.name, c.name) for c in card.missed)
    return f"Missed: {', '.join(names)}."
