"""A circuit that is known because it was planted: every other unit's output weights are zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from interpretops.circuits import ContrastPair, Openings, SearchSpec, Unit, search
from interpretops.circuits.attribution import Gradients, component_scores
from interpretops.circuits.batches import Batches
from interpretops.circuits.patching import Patcher
from interpretops.circuits.pruning import acdc
from interpretops.circuits.search import load_scores
from interpretops.circuits.task import PairRuns
from interpretops.errors import InterpretOpsError
from interpretops.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.artifacts import ArtifactStore
    from interpretops.circuits import ContrastTask
    from interpretops.models import HookedModel
    from interpretops.sae import Dictionary

PLANTS = [
    frozenset({"layer0.attn.h2", "layer1.mlp", "layer2.attn.h1"}),
    frozenset({"layer1.attn.h0"}),
    frozenset({"layer1.attn.h1", "layer1.mlp"}),
    frozenset({"layer0.attn.h0", "layer1.attn.h3", "layer2.mlp"}),
]
# `keep` this close to 1 lets no unit go that carries anything.
SPEC = SearchSpec(keep=0.999, ig_steps=3, pairs=10, held_out=4, resamples=4, batch_size=6)


def _plant(model: HookedModel, planted: frozenset[str]) -> None:
    with torch.no_grad():
        for i, layer in enumerate(model.hf.model.layers):
            for head in range(model.n_heads):
                if f"layer{i}.attn.h{head}" not in planted:
                    span = slice(head * model.head_dim, (head + 1) * model.head_dim)
                    layer.self_attn.o_proj.weight[:, span] = 0
            if f"layer{i}.mlp" not in planted:
                layer.mlp.down_proj.weight.zero_()


@pytest.fixture(params=PLANTS, ids=lambda plant: "+".join(sorted(plant)))
def planted(request: pytest.FixtureRequest) -> frozenset[str]:
    """Names of the only units that do anything."""
    names: frozenset[str] = request.param
    return names


@pytest.fixture
def model(make_tiny: Callable[..., HookedModel], planted: frozenset[str]) -> HookedModel:
    """A tiny llama with the circuit planted."""
    model = make_tiny("llama")
    _plant(model, planted)
    return model


@pytest.mark.parametrize("method", ["eap_ig", "acdc"])
def test_search_returns_the_planted_units_only_and_they_explain_everything(
    model: HookedModel,
    planted: frozenset[str],
    letters: Callable[..., ContrastTask],
    store: ArtifactStore,
    method: str,
) -> None:
    spec = SPEC.model_copy(update={"method": method, "threshold": 1e-3})
    circuit = search(model, letters(16), spec, store=store)
    graph = circuit.graph
    assert {scored.unit for scored in graph.units} == planted
    for figure in (graph.faithfulness, graph.completeness):
        assert figure.value == pytest.approx(1.0, abs=5e-3)
        assert figure.n == 4
    assert graph.minimality.value == 1.0
    curve = graph.faithfulness_curve
    assert [point.units for point in curve] == list(range(1, len(planted) + 1))
    strengths = sorted((abs(u.attribution) for u in graph.units), reverse=True)
    assert [point.weakest for point in curve] == pytest.approx(strengths)
    assert curve[-1].kept == graph.faithfulness
    for point in curve[:-1]:
        assert point.kept.value < graph.faithfulness.value - 1e-3
    assert graph.components == model.n_layers * (model.n_heads + 1)
    assert (graph.pairs, graph.dropped) == (10, 0)
    assert all(scored.ccs is not None and scored.ccs.n == 10 for scored in graph.units)
    order = sorted(planted, key=lambda name: Unit.parse(name).order)
    forward = {(a, b) for i, a in enumerate(order) for b in [*order[i + 1 :], "output"]}
    assert {(edge.source, edge.target) for edge in graph.edges} == forward
    scores = load_scores(store, circuit.id)
    assert {name for name, score in scores.items() if score.abs().max() > 1e-7} == planted


def test_a_model_in_bfloat16_with_a_dictionary(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    dictionary_of: Callable[..., Dictionary],
    store: ArtifactStore,
) -> None:
    """Scores and shares are float32 all the same, and near those of the model in float32."""
    spec = SPEC.model_copy(update={"measured_features": 3, "keep": 0.9})
    tiny.hf.to(torch.bfloat16)
    dictionary = dictionary_of(tiny)
    found = search(tiny, letters(16), spec, dictionary=dictionary, store=store)
    scores = load_scores(store, found.id)
    assert {score.dtype for score in scores.values()} == {torch.float32}
    assert [name for name in (u.unit for u in found.graph.units) if ".f" in name]
    tiny.hf.to(torch.float32)
    exact = search(tiny, letters(16), spec, dictionary=dictionary, store=store)
    whole = load_scores(store, exact.id)
    largest = max(float(score.abs().max()) for score in whole.values())
    for name, score in scores.items():
        torch.testing.assert_close(score, whole[name], atol=0.05 * largest, rtol=0.05)


def test_acdc_judges_each_unit_given_what_it_took_out_before(
    tiny: HookedModel, letters: Callable[..., ContrastTask]
) -> None:
    task = letters(6)
    batches = Batches(tiny, task, task.pairs, {}, 6, SILENT)
    kept = acdc(batches, 0.05, SILENT)
    assert 0 < len(kept) < len(batches.components)
    share = 1.0
    inside = list(batches.components)
    for unit in reversed(batches.components):
        rest = [other for other in inside if other != unit]
        left = batches.patched(sorted(set(batches.components) - set(rest))) - batches.corrupt
        without = float(left.mean() / batches.effect.mean())
        assert (abs(without - share) > 0.05) == (unit in kept)
        if unit not in kept:
            inside, share = rest, without
    assert inside == kept


def test_an_acdc_threshold_that_nothing_exceeds(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> None:
    spec = SPEC.model_copy(update={"method": "acdc", "threshold": 1e6})
    with pytest.raises(InterpretOpsError, match="no head or MLP changes the effect") as error:
        search(tiny, letters(16), spec, store=store)
    assert _one_line(error)


def test_units_that_were_not_planted_contribute_nothing(
    model: HookedModel, planted: frozenset[str], letters: Callable[..., ContrastTask]
) -> None:
    task = letters(3)
    patcher = Patcher(PairRuns(model, task, task.pairs), {})
    scores = component_scores(patcher, Gradients(patcher, 2))
    total = float(patcher.effect.mean())
    for unit in patcher.components:
        ccs = float((patcher.clean.metric - patcher.patched([unit])).mean()) / total
        if str(unit) not in planted:
            assert ccs == pytest.approx(0.0, abs=1e-5)
            assert float(scores[unit].abs().max()) == 0.0
        elif unit == Unit.parse(max(planted, key=lambda name: Unit.parse(name).order)):
            # What comes last has no other unit to make up for it.
            assert abs(ccs) > 1e-3


def test_a_second_search_is_the_same_artifact(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> None:
    spec = SearchSpec(ig_steps=1, pairs=4, held_out=2, resamples=2, minimality_units=1)
    first = search(tiny, letters(8), spec, store=store)
    assert search(tiny, letters(8), spec, store=store).id == first.id
    other = search(tiny, letters(8), spec.model_copy(update={"ig_steps": 2}), store=store)
    assert other.id != first.id


def test_twins_of_unequal_length_are_dropped_and_counted(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> None:
    task = letters(9)
    uneven = tuple(ContrastPair(risky="A" * (i + 2), harmless="Z") for i in range(5))
    spec = SearchSpec(ig_steps=1, held_out=2, resamples=2, minimality_units=1)
    task = task.model_copy(update={"pairs": (*uneven, *task.pairs)})
    graph = search(tiny, task, spec, store=store).graph
    assert (graph.pairs, graph.dropped) == (7, 5)


class _Recorder:
    """Notes the stages that are reported."""

    def __init__(self, stages: list[str]) -> None:
        self.stages = stages

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        self.stages.append(stage)


def _one_line(error: pytest.ExceptionInfo[InterpretOpsError]) -> bool:
    return "\n" not in str(error.value) and "Fix:" in str(error.value)


def test_too_few_aligned_pairs(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> None:
    uneven = tuple(ContrastPair(risky="AA", harmless="Z" * (i + 3)) for i in range(4))
    task = letters(7)
    task = task.model_copy(update={"pairs": (*task.pairs, *uneven)})
    with pytest.raises(InterpretOpsError, match="only 7 of 11 pairs") as error:
        search(tiny, task, SPEC, store=store)
    assert _one_line(error)


def test_twins_that_do_not_differ(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    store: ArtifactStore,
) -> None:
    same = tuple(ContrastPair(risky=f"AAAA {i}", harmless=f"AAAA {i}") for i in range(9))
    task = letters(1).model_copy(update={"pairs": same})
    with pytest.raises(InterpretOpsError, match="does not differ reliably") as error:
        search(tiny, task, SPEC, store=store)
    assert _one_line(error)


def test_held_out_twins_that_do_not_differ(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> None:
    """Shares of an effect that is 0 would be NaN; the search says so before it begins."""
    spec = SPEC.model_copy(update={"held_out": 2})
    task = letters(9)
    held = np.random.default_rng(spec.seed).permutation(9)[:2]
    same = tuple(
        ContrastPair(risky=pair.risky, harmless=pair.risky) if i in held else pair
        for i, pair in enumerate(task.pairs)
    )
    stages: list[str] = []
    with pytest.raises(InterpretOpsError, match="do not differ on the 2 held-out") as error:
        search(
            tiny,
            task.model_copy(update={"pairs": same}),
            spec,
            store=store,
            monitor=_Recorder(stages),
        )
    assert _one_line(error)
    assert "attributing" not in stages


def test_an_effect_of_no_sure_sign(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> None:
    task = letters(12)
    turned = tuple(
        pair if i % 2 else ContrastPair(risky=pair.harmless, harmless=pair.risky)
        for i, pair in enumerate(task.pairs)
    )
    spec = SPEC.model_copy(update={"held_out": 2})
    with pytest.raises(InterpretOpsError, match="does not differ reliably"):
        search(tiny, task.model_copy(update={"pairs": turned}), spec, store=store)


def test_openings_that_begin_alike(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> None:
    alike = Openings(toward=("no",), against=("now",))
    task = letters(8).model_copy(update={"behaviour": alike})
    with pytest.raises(InterpretOpsError, match="begin with the same tokens") as error:
        search(tiny, task, SPEC, store=store)
    assert _one_line(error)


def test_a_failed_search_leaves_no_artifact(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> None:
    same = tuple(ContrastPair(risky=f"AAAA {i}", harmless=f"AAAA {i}") for i in range(9))
    task = letters(1).model_copy(update={"pairs": same})
    for _ in range(2):  # a second call must not find the first one's remains
        with pytest.raises(InterpretOpsError, match="does not differ reliably"):
            search(tiny, task, SPEC, store=store)
