"""Feature cards as the engine packs them in a dictionary artifact, read one by one.

A site's cards are one JSON file in which each token stands once: `tokens`, and `cards` that name them by
number. The few files that are read over and over are kept parsed.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

from pydantic import BaseModel, Field

MOST_BYTES = 64 * 2**20
_KEPT = 4


class Context(BaseModel):
    """A stretch of text around one of a feature's peaks."""

    tokens: list[str]
    activations: list[float] = Field(description="The feature's activation on each token.")
    peak: int = Field(description="Index of the largest.")


class TokenEffect(BaseModel):
    """A token, and how much the feature's direction alone moves its logit."""

    token: str
    logit: float


class Histogram(BaseModel):
    """How often a feature was how active, on a logarithmic scale."""

    edges: list[float] = Field(description="Where bins begin and end; one more than counts.")
    counts: list[int] = Field(description="Tokens in each bin.")


class FeatureCard(BaseModel):
    """What is known of one feature."""

    index: int
    density: float = Field(description="Share of tokens on which it is active.")
    max_activation: float
    contexts: list[Context] = Field(description="Where it was most active, strongest first.")
    promoted: list[TokenEffect] = Field(description="Tokens it makes likelier, strongest first.")
    suppressed: list[TokenEffect]
    histogram: Histogram | None = Field(
        description="Null in dictionaries that were made before activations were counted."
    )


class Cards:
    """The cards of one site.

    Args:
        data: The file.
    """

    def __init__(self, data: bytes) -> None:
        packed = json.loads(data)
        self._tokens: list[str] = packed["tokens"]
        self._rows: list[dict[str, Any]] = packed["cards"]
        self._place = {row["index"]: i for i, row in enumerate(self._rows)}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, feature: int) -> FeatureCard | None:
        """The card of a feature; none where it was never active."""
        place = self._place.get(feature)
        return None if place is None else self._card(self._rows[place])

    def after(self, feature: int, limit: int) -> list[FeatureCard]:
        """Cards of features beyond this number, in order, and at most so many."""
        found = [row for row in self._rows if row["index"] > feature][:limit]
        return [self._card(row) for row in found]

    def _card(self, row: dict[str, Any]) -> FeatureCard:
        counted = row.get("histogram")
        histogram = None
        if counted is not None:
            bins = range(len(counted["counts"]) + 1)
            edges = [counted["low"] * counted["ratio"] ** i for i in bins]
            histogram = Histogram(edges=edges, counts=counted["counts"])
        return FeatureCard(
            index=row["index"],
            density=row["density"],
            max_activation=row["max"],
            contexts=[
                Context(tokens=[self._tokens[t] for t in shown], activations=values, peak=peak)
                for shown, values, peak in row["contexts"]
            ],
            promoted=self._effects(row["promoted"]),
            suppressed=self._effects(row["suppressed"]),
            histogram=histogram,
        )

    def _effects(self, pairs: list[tuple[int, float]]) -> list[TokenEffect]:
        return [TokenEffect(token=self._tokens[t], logit=logit) for t, logit in pairs]


class CardShelf:
    """The files of cards that were read last, parsed, by tenant and digest."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Cards] = OrderedDict()

    def find(self, tenant: str, sha256: str) -> Cards | None:
        """The cards, where they were read before."""
        found = self._kept.get((tenant, sha256))
        if found is not None:
            self._kept.move_to_end((tenant, sha256))
        return found

    def keep(self, tenant: str, sha256: str, cards: Cards) -> Cards:
        """Keep cards, in place of those that were not asked for the longest."""
        self._kept[tenant, sha256] = cards
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return cards
