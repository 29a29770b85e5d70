"""A Risk Card in the store, with every answer beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.artifacts import ArtifactKind, Handle
from interpretops.evals.risk_card import RiskCard, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops.artifacts import Manifest

CARD_FILE = "risk_card.json"
SAMPLES_FILE = "samples.jsonl"


class RiskCardArtifact(Handle):
    """A stored Risk Card.

    Attributes:
        card: The card.
    """

    kind = ArtifactKind.RISK_CARD

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        super().__init__(manifest, folder)
        self.card = RiskCard.model_validate_json((folder / CARD_FILE).read_bytes())

    def samples(self) -> list[Sample]:
        """Every prompt with both answers."""
        lines = (self.folder / SAMPLES_FILE).read_text(encoding="utf-8").splitlines()
        return [Sample.model_validate_json(line) for line in lines]
