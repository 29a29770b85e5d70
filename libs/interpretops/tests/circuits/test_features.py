"""Features of a dictionary as units: scored like components, patched along their decoder rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.circuits.attribution import Gradients, feature_scores
from interpretops.circuits.patching import Patcher
from interpretops.circuits.task import PairRuns
from interpretops.sae.jumprelu import JumpReLUSAE

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.circuits import ContrastTask
    from interpretops.models import HookedModel

LAYER = 1


@pytest.fixture
def sae(tiny: HookedModel) -> JumpReLUSAE:
    """A random dictionary, four times as wide as the stream."""
    generator = torch.Generator().manual_seed(0)
    return JumpReLUSAE(tiny.d_model, 4 * tiny.d_model, generator=generator).requires_grad_(False)


def test_a_patched_feature_moves_the_stream_along_its_decoder_row(
    tiny: HookedModel, sae: JumpReLUSAE, letters: Callable[..., ContrastTask]
) -> None:
    task = letters(1)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {LAYER: sae})
    scores = feature_scores(patcher, Gradients(patcher, 1))
    unit = max(scores, key=lambda u: float(scores[u].abs()))
    ours = patcher.patched([unit])
    values: list[torch.Tensor] = []

    def hook(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        values.append(sae.encode(out)[..., unit.index])
        change = values[0] - values[-1]
        return out + change[..., None] * sae.W_dec[unit.index]

    handle = tiny.hf.model.layers[LAYER].register_forward_hook(hook)
    with torch.no_grad():
        tiny.hf(torch.tensor([tiny.token_ids(task.pairs[0].harmless)]))
        logits = tiny.hf(torch.tensor([tiny.token_ids(task.pairs[0].risky)])).logits[:, -1]
    handle.remove()
    torch.testing.assert_close(ours, patcher.runs.metric(logits), atol=1e-5, rtol=1e-4)
    assert (ours - patcher.clean.metric).abs().max() > 1e-4


def test_feature_scores_of_a_small_change_equal_exact_patching(
    tiny: HookedModel, sae: JumpReLUSAE, letters: Callable[..., ContrastTask]
) -> None:
    task = letters(2)
    a, z = (tiny.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "AZ")
    weight = tiny.hf.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight[z] = weight[a] + 1e-3 * torch.randn(tiny.d_model, generator=generator)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {LAYER: sae})
    scores = feature_scores(patcher, Gradients(patcher, 1))
    strongest = sorted(scores, key=lambda u: -float(scores[u].abs().sum()))[:8]
    exact = torch.stack([patcher.clean.metric - patcher.patched([u]) for u in strongest])
    assert exact.abs().max() > 1e-5
    estimates = torch.stack([scores[u] for u in strongest])
    torch.testing.assert_close(estimates, exact, atol=0.05 * float(exact.abs().max()), rtol=0.05)


def test_features_that_do_not_differ_are_not_scored(
    tiny: HookedModel, sae: JumpReLUSAE, letters: Callable[..., ContrastTask]
) -> None:
    task = letters(2)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {LAYER: sae})
    gradients = Gradients(patcher, 1)
    before = set(feature_scores(patcher, gradients))
    silenced = max(before)
    with torch.no_grad():
        sae.W_enc[:, silenced.index] = 0
    assert set(feature_scores(patcher, gradients)) == before - {silenced}
