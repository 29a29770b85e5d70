"""Features of a dictionary and its error as units: scored like components, patched in the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.circuits import SearchSpec, Unit, search
from interpretops.circuits.attribution import Gradients, feature_scores
from interpretops.circuits.patching import Patcher
from interpretops.circuits.task import PairRuns
from interpretops.sae.jumprelu import JumpReLUSAE
from interpretops.sae.topk import BatchTopKSAE, TopKSAE

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.artifacts import ArtifactStore
    from interpretops.circuits import ContrastTask
    from interpretops.models import HookedModel
    from interpretops.sae import SAE, Dictionary

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
    features = [unit for unit in scores if unit.kind == "feature"]
    unit = max(features, key=lambda u: float(scores[u].abs()))
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


def _competing(kind: type[BatchTopKSAE | TopKSAE], tiny: HookedModel) -> SAE:
    """A dictionary whose features are read against thresholds of their own."""
    generator = torch.Generator().manual_seed(0)
    sae = kind(tiny.d_model, 4 * tiny.d_model, 2, generator=generator).requires_grad_(False)
    sae.threshold.copy_(torch.linspace(0.05, 0.5, sae.d_sae))
    return sae


def _bring_twins_together(tiny: HookedModel) -> None:
    a, z = (tiny.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "AZ")
    weight = tiny.hf.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight[z] = weight[a] + 1e-3 * torch.randn(tiny.d_model, generator=generator)


@pytest.mark.parametrize("kind", [None, BatchTopKSAE, TopKSAE])
def test_feature_scores_of_a_small_change_equal_exact_patching(
    tiny: HookedModel,
    sae: JumpReLUSAE,
    letters: Callable[..., ContrastTask],
    kind: type[BatchTopKSAE | TopKSAE] | None,
) -> None:
    task = letters(2)
    _bring_twins_together(tiny)
    read = sae if kind is None else _competing(kind, tiny)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {LAYER: read})
    scores = feature_scores(patcher, Gradients(patcher, 1))
    strongest = sorted(scores, key=lambda u: -float(scores[u].abs().sum()))[:8]
    exact = torch.stack([patcher.clean.metric - patcher.patched([u]) for u in strongest])
    assert exact.abs().max() > 1e-5
    estimates = torch.stack([scores[u] for u in strongest])
    torch.testing.assert_close(estimates, exact, atol=0.05 * float(exact.abs().max()), rtol=0.05)


@pytest.mark.parametrize("kind", [BatchTopKSAE, TopKSAE])
def test_a_feature_is_scored_exactly_where_patching_it_changes_something(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    kind: type[BatchTopKSAE | TopKSAE],
) -> None:
    """Also one that is above its threshold without a place among the top k."""
    task = letters(2)
    sae = _competing(kind, tiny)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {LAYER: sae})
    scores = feature_scores(patcher, Gradients(patcher, 1))
    scored = {unit.index for unit in scores if unit.kind == "feature"}
    every = torch.arange(sae.d_sae)
    before = sae.encode_features(patcher.clean.resid[LAYER], every)
    change = (before - patcher.corrupt_features(LAYER, every))[patcher.runs.real]
    differing = set(change.abs().sum(0).nonzero()[:, 0].tolist())
    assert 0 < len(differing) < sae.d_sae
    assert scored == differing
    if kind is TopKSAE:
        placed = sae.encode(patcher.clean.resid[LAYER]) != sae.encode(patcher.corrupt.resid[LAYER])
        assert scored - set(placed.flatten(0, -2).any(0).nonzero()[:, 0].tolist())


def test_features_that_do_not_differ_are_not_scored(
    tiny: HookedModel, sae: JumpReLUSAE, letters: Callable[..., ContrastTask]
) -> None:
    task = letters(2)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {LAYER: sae})
    gradients = Gradients(patcher, 1)
    before = set(feature_scores(patcher, gradients))
    silenced = max(unit for unit in before if unit.kind == "feature")
    with torch.no_grad():
        sae.W_enc[:, silenced.index] = 0
    assert set(feature_scores(patcher, gradients)) == before - {silenced}


@pytest.mark.parametrize("kind", [None, BatchTopKSAE, TopKSAE])
def test_scores_of_features_and_error_add_up_to_the_whole_sites(
    tiny: HookedModel,
    sae: JumpReLUSAE,
    letters: Callable[..., ContrastTask],
    kind: type[BatchTopKSAE | TopKSAE] | None,
) -> None:
    task = letters(3)
    read = sae if kind is None else _competing(kind, tiny)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {LAYER: read})
    gradients = Gradients(patcher, 2)
    scores = feature_scores(patcher, gradients)
    change = patcher.clean.resid[LAYER] - patcher.corrupt.resid[LAYER]
    site = (change * gradients.resid[LAYER])[patcher.runs.real].reshape(3, -1).sum(1)
    torch.testing.assert_close(sum(scores.values()), site, atol=1e-5, rtol=1e-4)
    error = scores[Unit(kind="error", layer=LAYER)]
    assert error.abs().min() > 1e-3  # a random dictionary leaves something out
    assert (error - site).abs().min() > 1e-3  # and not everything


@pytest.mark.parametrize("kind", [None, BatchTopKSAE, TopKSAE])
def test_patching_all_features_and_the_error_is_patching_the_whole_site(
    tiny: HookedModel,
    sae: JumpReLUSAE,
    letters: Callable[..., ContrastTask],
    kind: type[BatchTopKSAE | TopKSAE] | None,
) -> None:
    task = letters(1)
    read = sae if kind is None else _competing(kind, tiny)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {LAYER: read})
    error = Unit(kind="error", layer=LAYER)
    features = [Unit(kind="feature", layer=LAYER, index=i) for i in range(read.d_sae)]
    values: list[torch.Tensor] = []

    def hook(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        values.append(out)
        return values[0]

    handle = tiny.hf.model.layers[LAYER].register_forward_hook(hook)
    with torch.no_grad():
        for prompt in (task.pairs[0].harmless, task.pairs[0].risky):
            logits = tiny.hf(torch.tensor([tiny.token_ids(prompt)])).logits[:, -1]
    handle.remove()
    whole = patcher.runs.metric(logits)
    torch.testing.assert_close(patcher.patched([*features, error]), whole, atol=1e-5, rtol=1e-4)
    for part in (features, [error]):
        assert (patcher.patched(part) - whole).abs().min() > 1e-4


def test_a_search_measures_the_error_beside_the_features(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    dictionary_of: Callable[..., Dictionary],
    store: ArtifactStore,
) -> None:
    spec = SearchSpec(
        ig_steps=2, pairs=6, held_out=2, resamples=2, measured_features=3, minimality_units=1
    )
    graph = search(tiny, letters(9), spec, dictionary=dictionary_of(tiny), store=store).graph
    kinds = [Unit.parse(scored.unit).kind for scored in graph.units]
    assert (kinds.count("feature"), kinds.count("error")) == (3, 1)
    error = f"layer{LAYER}.error"
    measured = next(scored for scored in graph.units if scored.unit == error)
    assert measured.ccs is not None
    assert (error, "output") in {(edge.source, edge.target) for edge in graph.edges}
    assert error not in {edge.target for edge in graph.edges}
