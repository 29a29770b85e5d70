"""A Risk Card in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from interpretops.evals import figures

if TYPE_CHECKING:
    from rich.console import RenderableType

    from interpretops.evals.risk_card import RiskCard


def to_table(card: RiskCard) -> RenderableType:
    """The card as tables: verdict, suites, arms, judges. Everything shows n and interval."""
    color = "green" if card.passed else "red"
    parts: list[RenderableType] = [
        Text(f"Risk Card of {card.policy.id} on {card.model.name}", style="bold"),
        Text(figures.headline(card), style=f"bold {color}"),
        _criteria(card),
        _suites(card),
    ]
    if card.damages:
        parts.append(_damages(card))
    parts += [_arms(card), _judges(card)]
    if card.latency is not None:
        parts.append(
            Text(
                "Overhead on attacks: "
                + figures.estimate("latency_overhead_pct", card.latency.attack_overhead_pct)
            )
        )
    if card.cost is not None:
        parts.append(
            Text(
                f"Cost per 1,000 requests ({card.cost.currency}): "
                f"{figures.estimate('cost', card.cost.baseline_per_1k)} before, "
                f"{figures.estimate('cost', card.cost.steered_per_1k)} steered"
            )
        )
    parts += [Text(f"- {note}", style="dim") for note in card.notes]
    return Group(*parts)


def _criteria(card: RiskCard) -> Table:
    table = Table("criterion", "of", "limit", "measured (95 %; n)", "verdict", title="Verdict")
    for criterion in card.win_line:
        style = "red" if not criterion.passed else "green" if criterion.supported else "yellow"
        table.add_row(
            figures.TITLES.get(criterion.name, criterion.name),
            criterion.source,
            figures.limit(criterion),
            figures.estimate(criterion.name, criterion.value),
            Text(figures.verdict(criterion), style=style),
        )
    return table


def _suites(card: RiskCard) -> Table:
    table = Table("suite", "metric", "baseline", "steered", "change", title="Suites")
    for suite in card.suites:
        for name, pair in suite.metrics.items():
            table.add_row(
                suite.name,
                name,
                figures.estimate(name, pair.baseline),
                figures.estimate(name, pair.steered),
                figures.estimate(name, pair.change),
            )
    return table


def _damages(card: RiskCard) -> Table:
    table = Table("benign measurement", "relative loss", title="Collateral damage")
    for name, found in card.damages.items():
        table.add_row(name, figures.estimate("collateral_damage", found))
    return table


def _arms(card: RiskCard) -> Table:
    table = Table("arm", "DE", "CD", "over-refusal", "degenerate", title="Beside comparisons")
    for name, arm in card.arms.items():
        table.add_row(
            name,
            figures.estimate("defense_efficacy", arm.defense_efficacy),
            figures.estimate("collateral_damage", arm.collateral_damage),
            figures.estimate("over_refusal_rate", arm.over_refusal_rate),
            figures.estimate("degeneration_rate", arm.degeneration_rate),
        )
    return table


def _judges(card: RiskCard) -> Table:
    table = Table("judge", "labelled data", "accuracy", "false positives", title="Judges' error")
    for judge in card.judges:
        for measured in judge.measured:
            table.add_row(
                judge.name,
                measured.data,
                figures.estimate("answered", measured.figures.get("accuracy")),
                figures.estimate("answered", measured.figures.get("false_positive_rate")),
            )
    return table
