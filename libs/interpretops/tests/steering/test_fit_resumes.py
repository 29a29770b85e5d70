"""A fit that is stopped goes on with its last finished part, and ends as if it had not been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from interpretops.artifacts import ArtifactStore
from interpretops.errors import Cancelled
from interpretops.models import HookedModel
from interpretops.prompts import Prompt, PromptSet
from interpretops.sae import DictionarySpec, train_dictionary
from interpretops.steering import FittingSet, ProposeSpec, propose_policy
from interpretops.testing import byte_tokenizer, refusing_hf

if TYPE_CHECKING:
    from pathlib import Path

SPEC = ProposeSpec(
    target_refusal=0.5,
    max_features=2,
    answer_tokens=1,
    fit_prompts=8,
    check_prompts=4,
    steps=30,
    learning_rate=0.05,
    strengths=(2.0, 3.0),
    front_budgets=(0.4,),
)


def some(verb: str, numbers: range) -> tuple[Prompt, ...]:
    return tuple(
        Prompt(id=f"{verb}{i}", text=f"{verb} {i:03d}", topic=f"{verb}{i % 4}") for i in numbers
    )


DATA = FittingSet(
    train_risky=some("Fetch", range(16)),
    train_harmless=some("Bring", range(16)),
    validation_risky=some("Fetch", range(500, 508)),
    validation_harmless=some("Bring", range(500, 508)),
)


class Stages:
    """Notes the stages of work, and stops it at the beginning of one."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.seen: list[str] = []
        self._stop_at = stop_at

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        if stage not in self.seen:
            self.seen.append(stage)
        if stage == self._stop_at:
            raise Cancelled("stopped")


def test_a_stopped_fit_repeats_no_finished_part_and_ends_with_the_same_bytes(
    store: ArtifactStore, tmp_path: Path
) -> None:
    model = HookedModel.from_hf(refusing_hf(), byte_tokenizer(), name="refusing")
    texts = PromptSet.of(prompt.text for prompt in (*DATA.train_risky, *DATA.train_harmless))
    sites = DictionarySpec(sites=("resid_post.2",), d_sae=64, k=4, tokens=2048, batch=256)
    dictionary = train_dictionary(model, texts, sites, store=store)
    other = ArtifactStore(tmp_path / "stopped")
    other.import_folder(store.export(dictionary.id, tmp_path / "dictionary"))

    def fit(where: ArtifactStore, stages: Stages) -> str:
        made = propose_policy(
            model, None, DATA, SPEC, dictionary=dictionary, store=where, monitor=stages
        )
        assert not [file.path for file in made.manifest.files if file.path.startswith(".")]
        return made.manifest.sha256

    whole = Stages()
    expected = fit(store, whole)
    stop_at = "reading prompts under the policy"
    assert whole.seen.index("fitting the direction") < whole.seen.index(stop_at)
    with pytest.raises(Cancelled):
        fit(other, Stages(stop_at))
    resumed = Stages()
    assert fit(other, resumed) == expected
    repeated = [stage for stage in resumed.seen if stage.startswith(("fitting", "trying"))]
    assert repeated == []
