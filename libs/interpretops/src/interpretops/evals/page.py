"""A Risk Card as one HTML file that asks nothing of the network."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from interpretops.evals import figures

if TYPE_CHECKING:
    from interpretops.evals.risk_card import RiskCard


def to_html(card: RiskCard) -> str:
    """The card as a self-contained page: no scripts, no external requests, light and dark.

    Prompts and answers are escaped: a model's output is not markup. Samples are folded away,
    because they may offend.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.globals.update(
        estimate=figures.estimate,
        headline=figures.headline,
        limit=figures.limit,
        number=figures.number,
        titles=figures.TITLES,
        verdict=figures.verdict,
    )
    source = resources.files("interpretops.evals") / "risk_card.html.j2"
    return environment.from_string(source.read_text(encoding="utf-8")).render(card=card)
