"""A contrast that suits the byte tokenizer of the tiny models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from interpretops.circuits import ContrastPair, ContrastTask, Openings
from interpretops.prompts import PromptSet
from interpretops.sae import DictionarySpec, train_dictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.artifacts import ArtifactStore
    from interpretops.models import HookedModel
    from interpretops.sae import Dictionary


@pytest.fixture
def letters() -> Callable[..., ContrastTask]:
    """Build a task of `AAAA 07` against `ZZZZ 07`: `letters(16)`.

    Twins have equal length and end alike, so nothing but heads and MLPs tells them apart at the last
    position. Refusing and complying openings are single bytes.
    """

    def make(pairs: int = 16, stem: str = "") -> ContrastTask:
        return ContrastTask(
            risk_class="letters",
            pairs=tuple(
                ContrastPair(risky=f"AAAA {i:02d}", harmless=f"ZZZZ {i:02d}") for i in range(pairs)
            ),
            behaviour=Openings(stem=stem, toward=("n", "x"), against=("y",)),
        )

    return make


@pytest.fixture
def dictionary_of(store: ArtifactStore) -> Callable[..., Dictionary]:
    """Train a small dictionary at the end of a model's layer 1: `dictionary_of(tiny)`."""

    def make(model: HookedModel, kind: str = "batch_topk") -> Dictionary:
        spec = DictionarySpec.model_validate(
            {"sites": ("resid_post.1",), "kind": kind, "d_sae": 64, "k": 4, "tokens": 2048}
        )
        texts = PromptSet.of(f"{letter * 4} {i:02d}" for i in range(40) for letter in "AZMQ")
        return train_dictionary(model, texts, spec, store=store)

    return make
