"""Circuits: scores against brute force, planted circuits, exact patching, export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from interpretops.circuits import ContrastPair, ContrastTask, SearchSpec, Unit, search
from interpretops.circuits.attribution import Gradients, component_scores
from interpretops.circuits.export import attribution_graph
from interpretops.circuits.patching import Patcher
from interpretops.circuits.statistics import bootstrap_stability, split_half_stability
from interpretops.circuits.task import PairRuns
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.artifacts import ArtifactStore
    from interpretops.models import HookedModel

PLANTED = {"layer0.attn.h2", "layer1.mlp", "layer2.attn.h1"}
SPEC = SearchSpec(ig_steps=3, pairs=12, held_out=4, resamples=6, batch_size=6)


def _task(pairs: int = 16) -> ContrastTask:
    return ContrastTask(
        risk_class="letters",
        pairs=tuple(
            ContrastPair(risky=f"AAAA {i:02d}", harmless=f"ZZZZ {i:02d}") for i in range(pairs)
        ),
        stem="",
        refuse=("n",),
        comply=("y",),
    )


def _plant(model: HookedModel) -> None:
    """Silence every head and MLP but the planted ones, by their output weights."""
    with torch.no_grad():
        for i, layer in enumerate(model.hf.model.layers):
            for head in range(model.n_heads):
                if f"layer{i}.attn.h{head}" not in PLANTED:
                    columns = slice(head * model.head_dim, (head + 1) * model.head_dim)
                    layer.self_attn.o_proj.weight[:, columns] = 0
            if f"layer{i}.mlp" not in PLANTED:
                layer.mlp.down_proj.weight.zero_()


def test_search_finds_planted_units_and_nothing_else(
    make_tiny: Callable[..., HookedModel], store: ArtifactStore
) -> None:
    model = make_tiny("llama")
    _plant(model)
    patcher = Patcher(PairRuns(model, _task(), _task().pairs[:4]), {})
    scores = component_scores(patcher, Gradients(patcher, 3))
    assert {str(u) for u, s in scores.items() if s.abs().max() > 1e-7} == PLANTED
    planted = [Unit.parse(name) for name in sorted(PLANTED)]
    torch.testing.assert_close(patcher.patched(planted), patcher.corrupt.metric)

    circuit = search(model, _task(), SPEC, store=store)
    assert circuit.graph.units
    assert {scored.unit for scored in circuit.graph.units} <= PLANTED
    assert all(scored.ccs.n == SPEC.pairs for scored in circuit.graph.units)
    again = search(model, _task(), SPEC, store=store)
    assert again.id == circuit.id


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_patching_nothing_is_clean_and_everything_is_corrupt(
    make_tiny: Callable[..., HookedModel], architecture: str
) -> None:
    patcher = Patcher(PairRuns(make_tiny(architecture), _task(), _task().pairs[:3]), {})
    torch.testing.assert_close(patcher.patched([]), patcher.clean.metric)
    # The twins end alike, so that nothing reaches the last logits but through components.
    torch.testing.assert_close(
        patcher.patched(patcher.components), patcher.corrupt.metric, atol=1e-4, rtol=1e-4
    )
    assert (patcher.effect.abs() > 1e-4).any()


def test_scores_equal_the_formula_by_brute_force(tiny: HookedModel) -> None:
    """EAP-IG (inputs) with plain PyTorch hooks on the Hugging Face module, no engine involved."""
    steps, model = 3, tiny.hf
    runs = PairRuns(tiny, _task(), _task().pairs[:1])
    patcher = Patcher(runs, {})
    ours = component_scores(patcher, Gradients(patcher, steps))
    pair = _task().pairs[0]
    clean, corrupt = (
        model.get_input_embeddings()(torch.tensor([tiny.token_ids(text)])).detach()
        for text in (pair.risky, pair.harmless)
    )

    def run(embeds: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        seen: dict[str, torch.Tensor] = {}
        handles: list[Any] = []
        for i, layer in enumerate(model.model.layers):

            def z(_: Any, args: Any, i: int = i) -> None:
                seen[f"z{i}"] = args[0]

            def mlp(_: Any, __: Any, out: torch.Tensor, i: int = i) -> None:
                seen[f"mlp{i}"] = out

            handles.append(layer.self_attn.o_proj.register_forward_pre_hook(z))
            handles.append(layer.mlp.register_forward_hook(mlp))
        logits = model(inputs_embeds=embeds).logits[0, -1]
        for handle in handles:
            handle.remove()
        return logits[runs.metric.refuse[0]] - logits[runs.metric.comply[0]], seen

    _, at_clean = run(clean)
    _, at_corrupt = run(corrupt)
    mean = {name: torch.zeros_like(x) for name, x in at_clean.items()}
    for step in range(steps):
        point = corrupt + (step + 0.5) / steps * (clean - corrupt)
        metric, seen = run(point.requires_grad_())
        found = torch.autograd.grad(metric, list(seen.values()))
        for name, gradient in zip(seen, found, strict=True):
            mean[name] += gradient / steps
    for unit, score in ours.items():
        name = f"{'mlp' if unit.kind == 'mlp' else 'z'}{unit.layer}"
        product = (at_clean[name] - at_corrupt[name]) * mean[name]
        if unit.kind == "head":
            product = product.unflatten(-1, (tiny.n_heads, -1))[..., unit.index, :]
        torch.testing.assert_close(score[0], product.sum(), atol=1e-4, rtol=1e-3)


def test_too_few_aligned_pairs_say_so(tiny: HookedModel, store: ArtifactStore) -> None:
    pairs = tuple(ContrastPair(risky="A" * (i + 2), harmless="Z") for i in range(9))
    task = _task().model_copy(update={"pairs": pairs})
    with pytest.raises(InterpretOpsError, match=r"0 of 9 pairs.*Fix:"):
        search(tiny, task, SPEC, store=store)


def test_stability_tells_signal_from_noise() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20, 50))
    signal = noise + 100 * (np.arange(50) < 5)
    for stability in (
        lambda x: bootstrap_stability(x, 5, resamples=10, seed=0),
        lambda x: split_half_stability(x, 5, splits=10, seed=0),
    ):
        assert stability(signal).value == 1.0
        assert stability(noise).value < 0.6


def test_exported_links_join_exported_nodes(
    make_tiny: Callable[..., HookedModel], store: ArtifactStore
) -> None:
    model = make_tiny("llama")
    _plant(model)
    circuit = search(model, _task(), SPEC, store=store)
    exported = attribution_graph(circuit.graph, model.ref, _task())
    ids = [node["node_id"] for node in exported["nodes"]]
    assert len(ids) == len(set(ids)) == len(circuit.graph.units) + 1
    assert exported["links"]
    assert all({link["source"], link["target"]} <= set(ids) for link in exported["links"])
    assert sum(node["is_target_logit"] for node in exported["nodes"]) == 1
