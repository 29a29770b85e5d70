"""Attribution against plain autograd on the Hugging Face modules, and against exact patching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.circuits import ContrastPair, Openings, Unit
from interpretops.circuits.attribution import Gradients, component_scores, edge_scores
from interpretops.circuits.patching import Patcher
from interpretops.circuits.task import PairRuns

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.circuits import ContrastTask
    from interpretops.models import HookedModel

    Recording = tuple[torch.Tensor, dict[str, torch.Tensor]]

ARCHITECTURES = ["gpt2", "llama", "gpt_neox", "gpt_neox_sequential"]


def _modules(hf: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Each layer's attention output projection and MLP, and the final norm, by each family's names."""
    if hf.config.model_type == "gpt2":
        return [(b.attn.c_proj, b.mlp) for b in hf.transformer.h], hf.transformer.ln_f
    if hf.config.model_type == "gpt_neox":
        layers = hf.gpt_neox.layers
        return [(b.attention.dense, b.mlp) for b in layers], hf.gpt_neox.final_layer_norm
    return [(b.self_attn.o_proj, b.mlp) for b in hf.model.layers], hf.model.norm


def _bare(model: HookedModel, task: ContrastTask, embeds: torch.Tensor) -> Recording:
    """The metric `[]` of one prompt and its activations, without the engine or a shared prefix."""
    seen: dict[str, torch.Tensor] = {}

    def before(name: str) -> Callable[..., None]:
        return lambda _, args: seen.update({name: args[0]})

    def after(name: str) -> Callable[..., None]:
        return lambda _, __, out: seen.update({name: out})

    layers, final_norm = _modules(model.hf)
    handles = [final_norm.register_forward_pre_hook(before("resid"))]
    for i, (projection, mlp) in enumerate(layers):
        handles.append(projection.register_forward_pre_hook(before(f"head{i}")))
        handles.append(mlp.register_forward_hook(after(f"mlp{i}")))
    logits = model.hf(inputs_embeds=embeds).logits[0, -1]
    for handle in handles:
        handle.remove()

    assert isinstance(task.behaviour, Openings)

    def total(words: tuple[str, ...]) -> torch.Tensor:
        ids = [model.tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in words]
        odds: torch.Tensor = logits[ids].exp().sum().log()
        return odds

    return total(task.behaviour.toward) - total(task.behaviour.against), seen


def _embeddings(model: HookedModel, task: ContrastTask, text: str) -> torch.Tensor:
    stem = model.tokenizer(task.behaviour.stem, add_special_tokens=False)["input_ids"]
    found: torch.Tensor = model.hf.get_input_embeddings()(
        torch.tensor([[*model.token_ids(text), *stem]], device=model.device)
    )
    return found.detach()


def _bring_twins_together(model: HookedModel, distance: float) -> None:
    """Make the letters of the twins all but alike: what little differs is linear in `distance`."""
    a, z = (model.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "AZ")
    weight = model.hf.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        apart = torch.randn(weight.shape[1], generator=generator).to(weight.device)
        weight[z] = weight[a] + distance * apart


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("steps", [1, 3])
def test_node_scores_equal_plain_autograd(
    make_tiny: Callable[..., HookedModel],
    letters: Callable[..., ContrastTask],
    architecture: str,
    steps: int,
) -> None:
    model, task = make_tiny(architecture), letters(1, "so")
    patcher = Patcher(PairRuns(model, task, task.pairs), {})
    ours = component_scores(patcher, Gradients(patcher, steps))
    pair = task.pairs[0]
    clean, corrupt = (_embeddings(model, task, text) for text in (pair.risky, pair.harmless))
    metric, at_clean = _bare(model, task, clean)
    torch.testing.assert_close(patcher.clean.metric[0], metric.detach(), atol=1e-5, rtol=1e-5)
    _, at_corrupt = _bare(model, task, corrupt)
    average = {name: torch.zeros_like(x) for name, x in at_clean.items()}
    for step in range(steps):
        point = corrupt + (step + 0.5) / steps * (clean - corrupt)
        metric, seen = _bare(model, task, point.requires_grad_())
        found = torch.autograd.grad(metric, list(seen.values()))
        for name, gradient in zip(seen, found, strict=True):
            average[name] += gradient / steps
    assert len(ours) == model.n_layers * (model.n_heads + 1)
    for unit, score in ours.items():
        name = f"{unit.kind}{unit.layer}"
        product = (at_clean[name] - at_corrupt[name]) * average[name]
        if unit.kind == "head":
            product = product.chunk(model.n_heads, dim=-1)[unit.index]
        torch.testing.assert_close(score[0], product.sum(), atol=1e-5, rtol=1e-3)
    assert max(float(score.abs().max()) for score in ours.values()) > 1e-2


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gemma2", "olmo2"])
def test_scores_of_a_small_change_equal_exact_patching(
    make_tiny: Callable[..., HookedModel],
    letters: Callable[..., ContrastTask],
    architecture: str,
) -> None:
    model, task = make_tiny(architecture), letters(3)
    _bring_twins_together(model, 3e-3)
    patcher = Patcher(PairRuns(model, task, task.pairs), {})
    scores = component_scores(patcher, Gradients(patcher, 1))
    exact = {unit: patcher.clean.metric - patcher.patched([unit]) for unit in scores}
    largest = max(float(x.abs().max()) for x in exact.values())
    assert largest > 1e-4
    for unit, score in scores.items():
        torch.testing.assert_close(score, exact[unit], atol=0.03 * largest, rtol=0.05)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_does_not_change_scores(
    make_tiny: Callable[..., HookedModel],
    letters: Callable[..., ContrastTask],
    architecture: str,
) -> None:
    model, task = make_tiny(architecture), letters(1)
    short = task.pairs[0]
    long = ContrastPair(risky="AAAA and so on, 17", harmless="ZZZZ and so on, 17")
    together = Patcher(PairRuns(model, task, [long, short]), {})
    assert not together.runs.real.all()
    alone = Patcher(PairRuns(model, task, [short]), {})
    padded = component_scores(together, Gradients(together, 2))
    for unit, score in component_scores(alone, Gradients(alone, 2)).items():
        torch.testing.assert_close(padded[unit][1:], score, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "qwen2"])
def test_edges_to_the_output_sum_to_the_direct_effect(
    make_tiny: Callable[..., HookedModel],
    letters: Callable[..., ContrastTask],
    architecture: str,
) -> None:
    model, task = make_tiny(architecture), letters(2)
    patcher = Patcher(PairRuns(model, task, task.pairs), {})
    edges = edge_scores(patcher, Gradients(patcher, 2), patcher.components)
    direct = 0.0
    for pair in task.pairs:
        clean = _embeddings(model, task, pair.risky).requires_grad_()
        metric, at_clean = _bare(model, task, clean)
        _, at_corrupt = _bare(model, task, _embeddings(model, task, pair.harmless))
        (gradient,) = torch.autograd.grad(metric, at_clean["resid"])
        change = at_clean["resid"] - at_corrupt["resid"]
        direct += float((change * gradient).detach().sum()) / len(task.pairs)
    into_output = [score for (_, target), score in edges.items() if target is None]
    assert len(into_output) == len(patcher.components)
    assert abs(direct) > 1e-3
    assert sum(into_output) == pytest.approx(direct, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "olmo2"])
def test_edges_to_the_output_of_a_small_change_sum_to_the_direct_effect(
    make_tiny: Callable[..., HookedModel],
    letters: Callable[..., ContrastTask],
    architecture: str,
) -> None:
    """Also where a norm after attention lets heads add up to first order only."""
    model, task = make_tiny(architecture), letters(1)
    _bring_twins_together(model, 3e-3)
    patcher = Patcher(PairRuns(model, task, task.pairs), {})
    edges = edge_scores(patcher, Gradients(patcher, 1), patcher.components)
    pair = task.pairs[0]
    clean = _embeddings(model, task, pair.risky).requires_grad_()
    metric, at_clean = _bare(model, task, clean)
    _, at_corrupt = _bare(model, task, _embeddings(model, task, pair.harmless))
    (gradient,) = torch.autograd.grad(metric, at_clean["resid"])
    change = at_clean["resid"] - at_corrupt["resid"]
    direct = float((change * gradient).detach().sum())
    assert abs(direct) > 1e-4
    into_output = [score for (_, target), score in edges.items() if target is None]
    assert sum(into_output) == pytest.approx(direct, rel=0.03)


def _patched_edge(model: HookedModel, patcher: Patcher, source: Unit, layer: int) -> torch.Tensor:
    """The metric `[pairs]` when the MLP of a layer alone reads `source` at its corrupt value."""
    block: Any = {
        "gpt2": lambda hf: hf.transformer.h,
        "gpt_neox": lambda hf: hf.gpt_neox.layers,
        "llama": lambda hf: hf.model.layers,
        "olmo2": lambda hf: hf.model.layers,
    }[model.hf.config.model_type](model.hf)[layer]
    if source.kind == "mlp":
        change = patcher.clean.mlp[source.layer] - patcher.corrupt.mlp[source.layer]
    else:
        projection, arch = model.arch.attn_out_proj(source.layer), model.arch
        mixed = patcher.clean.z[source.layer].clone()
        mixed[:, :, source.index] = patcher.corrupt.z[source.layer][:, :, source.index]
        wrote = [projection(z.flatten(-2)) for z in (patcher.clean.z[source.layer], mixed)]
        norm = arch.post_attn_norm(source.layer)
        clean, corrupt = wrote if norm is None else [norm(x) for x in wrote]
        change = clean - corrupt

    def less(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (args[0] - change,)

    reader = {"gpt2": "ln_2", "olmo2": "mlp"}.get(
        model.hf.config.model_type, "post_attention_layernorm"
    )
    handle = getattr(block, reader).register_forward_pre_hook(less)
    with torch.no_grad():
        metric: torch.Tensor = patcher.runs.forward(patcher.runs.clean)
    handle.remove()
    return metric


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox_sequential", "olmo2"])
def test_edges_into_an_mlp_equal_exact_path_patching_of_a_small_change(
    make_tiny: Callable[..., HookedModel],
    letters: Callable[..., ContrastTask],
    architecture: str,
) -> None:
    """From the heads of its own layer as well as from layers before."""
    model, task = make_tiny(architecture), letters(2)
    _bring_twins_together(model, 1e-3)
    patcher = Patcher(PairRuns(model, task, task.pairs), {})
    edges = edge_scores(patcher, Gradients(patcher, 1), patcher.components)
    into = {
        (source, target): score
        for (source, target), score in edges.items()
        if target is not None and target.kind == "mlp"
    }
    for layer in range(model.n_layers):
        sources = {source for source, target in into if target == Unit(kind="mlp", layer=layer)}
        before = {unit for unit in patcher.components if unit.order < (layer, 1, 0)}
        assert sources == before
    exact = {
        edge: float((patcher.clean.metric - _patched_edge(model, patcher, *edge_of)).mean())
        for edge, edge_of in ((e, (e[0], e[1].layer)) for e in into)
    }
    own = [edge for edge in into if edge[0].layer == edge[1].layer]
    largest = max(abs(exact[edge]) for edge in own)
    assert largest > 1e-5
    for edge, score in into.items():
        assert score == pytest.approx(exact[edge], rel=0.05, abs=0.05 * largest)


def test_heads_do_not_reach_the_mlp_beside_them_where_both_run_in_parallel(
    make_tiny: Callable[..., HookedModel], letters: Callable[..., ContrastTask]
) -> None:
    model, task = make_tiny("gpt_neox"), letters(2)
    patcher = Patcher(PairRuns(model, task, task.pairs), {})
    edges = edge_scores(patcher, Gradients(patcher, 1), patcher.components)
    between = [(source, target) for source, target in edges if target is not None]
    assert between
    assert all(source.layer < target.layer for source, target in between)


def test_edges_run_forward_only(
    make_tiny: Callable[..., HookedModel], letters: Callable[..., ContrastTask]
) -> None:
    model, task = make_tiny("llama"), letters(2)
    patcher = Patcher(PairRuns(model, task, task.pairs), {})
    edges = edge_scores(patcher, Gradients(patcher, 1), patcher.components)
    between = [(source, target) for source, target in edges if target is not None]
    assert between
    assert all(source < target for source, target in between)
    assert all(target.kind == "mlp" for source, target in between if source.layer == target.layer)
