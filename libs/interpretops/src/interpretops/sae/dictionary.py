"""A dictionary artifact: trained SAEs, what they measured, and cards of their features."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from interpretops.artifacts import ArtifactKind, Handle
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, site
from interpretops.sae.cards import Context, FeatureCard
from interpretops.sae.evaluation import SiteEvaluation
from interpretops.sae.saelens import load_saelens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from interpretops.artifacts import Manifest
    from interpretops.sae.module import SAE

INDEX = "dictionary.json"
CARDS = "cards.json"


class DictionaryIndex(BaseModel):
    """What a dictionary artifact's folder holds besides weights.

    Each site has a folder of its name in SAELens' format (see `interpretops.sae.saelens`).

    Attributes:
        sites: The sites.
        source: Where the text came from.
        train_tokens: Activations trained on, per site, repeats included.
        evaluation: Figures on held-out text, by site.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sites: tuple[str, ...]
    source: str
    train_tokens: int
    evaluation: dict[str, SiteEvaluation]


class Dictionary(Handle):
    """Sparse autoencoders for one or more sites of a model."""

    kind = ArtifactKind.DICTIONARY

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        super().__init__(manifest, folder)
        self.index = DictionaryIndex.model_validate_json((folder / INDEX).read_bytes())
        self._cards: dict[Address, list[FeatureCard]] = {}

    @cached_property
    def saes(self) -> dict[Address, SAE]:
        """The autoencoders by site, frozen, on the CPU."""
        found = {}
        for name in self.index.sites:
            sae = load_saelens(self.folder / name)
            sae.address = site(name)
            found[sae.address] = sae
        return found

    def address(self, where: int | str | Address) -> Address:
        """The site that a layer number or a site's name means.

        Raises:
            InterpretOpsError: When the dictionary has no such site, or several in that layer.
        """
        sites = [site(name) for name in self.index.sites]
        if isinstance(where, int):
            matches = [address for address in sites if address.layer == where]
        else:
            matches = [address for address in sites if address == site(where)]
        if len(matches) == 1:
            return matches[0]
        problem = "several sites" if matches else "no site"
        raise InterpretOpsError(
            f"dictionary {self.id} has {problem} at {where}",
            fix=f"choose one of {', '.join(self.index.sites)}",
        )

    def sae(self, where: int | str | Address) -> SAE:
        """The autoencoder of a site, named by its layer or in full.

        Raises:
            InterpretOpsError: When there is no such site, or several in that layer.
        """
        return self.saes[self.address(where)]

    def evaluation(self, where: int | str | Address) -> SiteEvaluation:
        """Figures on held-out text.

        Raises:
            InterpretOpsError: When there is no such site, or several in that layer.
        """
        return self.index.evaluation[str(self.address(where))]

    def cards(self, where: int | str | Address) -> list[FeatureCard]:
        """Cards of the features that were active on the text, in the order of features.

        Empty where the dictionary was made without cards.

        Raises:
            InterpretOpsError: When there is no such site, or several in that layer.
        """
        address = self.address(where)
        if address not in self._cards:
            path = self.folder / str(address) / CARDS
            self._cards[address] = unpack_cards(path.read_bytes()) if path.is_file() else []
        return self._cards[address]

    def card(self, where: int | str | Address, feature: int) -> FeatureCard | None:
        """The card of one feature, or None where it was never active."""
        return next((card for card in self.cards(where) if card.index == feature), None)


def pack_cards(cards: Sequence[FeatureCard]) -> bytes:
    """Cards as compact JSON: each distinct token is written once and referred to by number."""
    numbers: dict[str, int] = {}

    def number(token: str) -> int:
        return numbers.setdefault(token, len(numbers))

    rows = [
        {
            "index": card.index,
            "density": card.density,
            "max": card.max_activation,
            "contexts": [
                [[number(t) for t in c.tokens], list(c.activations), c.peak] for c in card.contexts
            ],
            "promoted": [[number(e.token), e.logit] for e in card.promoted],
            "suppressed": [[number(e.token), e.logit] for e in card.suppressed],
            "histogram": None if card.histogram is None else card.histogram.model_dump(),
        }
        for card in cards
    ]
    packed = {"tokens": list(numbers), "cards": rows}
    return json.dumps(packed, ensure_ascii=False, separators=(",", ":")).encode()


def unpack_cards(data: bytes) -> list[FeatureCard]:
    """The cards that `pack_cards` wrote."""
    packed = json.loads(data)
    tokens = packed["tokens"]

    def effects(pairs: list[tuple[int, float]]) -> list[dict[str, str | float]]:
        return [{"token": tokens[t], "logit": logit} for t, logit in pairs]

    return [
        FeatureCard.model_validate(
            {
                "index": row["index"],
                "density": row["density"],
                "max_activation": row["max"],
                "contexts": [
                    Context(
                        tokens=tuple(tokens[t] for t in shown), activations=tuple(values), peak=peak
                    )
                    for shown, values, peak in row["contexts"]
                ],
                "promoted": effects(row["promoted"]),
                "suppressed": effects(row["suppressed"]),
                "histogram": row.get("histogram"),
            }
        )
        for row in packed["cards"]
    ]
