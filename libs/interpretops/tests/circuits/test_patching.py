"""Exact patching: the two ends of it, and against replacement by hand."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.circuits import ContrastPair, Unit
from interpretops.circuits.patching import Patcher
from interpretops.circuits.task import PairRuns

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.circuits import ContrastTask
    from interpretops.models import HookedModel
    from interpretops.sae import Dictionary

ARCHITECTURES = ["gpt2", "llama", "gpt_neox", "gemma2", "olmo2"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_patching_nothing_is_clean_and_everything_is_corrupt(
    make_tiny: Callable[..., HookedModel],
    letters: Callable[..., ContrastTask],
    architecture: str,
) -> None:
    model, task = make_tiny(architecture), letters(2)
    longer = ContrastPair(risky="AAAA and more", harmless="ZZZZ and more")
    patcher = Patcher(PairRuns(model, task, [*task.pairs, longer]), {})
    assert patcher.effect.abs().min() > 1e-4
    torch.testing.assert_close(patcher.patched([]), patcher.clean.metric)
    everything = patcher.patched(patcher.components)
    torch.testing.assert_close(everything, patcher.corrupt.metric, atol=1e-4, rtol=1e-4)


def test_components_are_every_head_and_mlp_in_forward_order(
    tiny: HookedModel, letters: Callable[..., ContrastTask]
) -> None:
    components = Patcher(PairRuns(tiny, letters(1), letters(1).pairs), {}).components
    assert components == sorted(components)
    assert len(set(components)) == tiny.n_layers * (tiny.n_heads + 1)


def _by_hand(model: HookedModel, risky: str, harmless: str, unit: Unit) -> torch.Tensor:
    """Logits `[vocab]` on a llama with one unit replaced, by hooks on the Hugging Face modules."""
    layer: Any = model.hf.model.layers[unit.layer]
    kept: list[torch.Tensor] = []
    span = slice(unit.index * model.head_dim, (unit.index + 1) * model.head_dim)

    def head(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        if not kept:
            kept.append(args[0].clone())
        mixed = args[0].clone()
        mixed[..., span] = kept[0][..., span]
        return (mixed,)

    def mlp(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        if not kept:
            kept.append(out.clone())
        return kept[0]

    if unit.kind == "head":
        handle = layer.self_attn.o_proj.register_forward_pre_hook(head)
    else:
        handle = layer.mlp.register_forward_hook(mlp)
    with torch.no_grad():
        model.hf(torch.tensor([model.token_ids(harmless)]))
        logits: torch.Tensor = model.hf(torch.tensor([model.token_ids(risky)])).logits[0, -1]
    handle.remove()
    return logits


@pytest.mark.parametrize("name", ["layer0.attn.h3", "layer1.attn.h0", "layer1.mlp"])
def test_one_patched_unit_equals_replacement_by_hand(
    tiny: HookedModel, letters: Callable[..., ContrastTask], name: str
) -> None:
    task, unit = letters(2), Unit.parse(name)
    patcher = Patcher(PairRuns(tiny, task, task.pairs), {})
    ours = patcher.patched([unit])
    by_hand = torch.stack([_by_hand(tiny, p.risky, p.harmless, unit) for p in task.pairs])
    torch.testing.assert_close(ours, patcher.runs.metric(by_hand), atol=1e-5, rtol=1e-4)
    assert (ours - patcher.clean.metric).abs().max() > 1e-4


def test_what_runs_were_made_before_changes_nothing(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    dictionary_of: Callable[..., Dictionary],
) -> None:
    task, dictionary = letters(3), dictionary_of(tiny)
    saes = {site.layer or 0: sae for site, sae in dictionary.saes.items()}
    runs = PairRuns(tiny, task, task.pairs)
    patcher = Patcher(runs, saes)
    extra = [Unit(kind="feature", layer=1, index=3), Unit(kind="error", layer=1)]
    everything = [*patcher.components, *extra]
    draw = Random(0)
    units: set[Unit] = set()
    for _ in range(40):  # each run differs from the last in a few units
        units ^= set(draw.sample(everything, draw.randint(0, 3)))
        alone = Patcher(runs, saes).patched(sorted(units))
        torch.testing.assert_close(patcher.patched(sorted(units)), alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "layers"), [("layer2.attn.h0", 1), ("layer1.error", 1)])
def test_only_layers_from_the_first_change_on_are_run(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    dictionary_of: Callable[..., Dictionary],
    name: str,
    layers: int,
) -> None:
    task, dictionary = letters(2), dictionary_of(tiny)
    saes = {site.layer or 0: sae for site, sae in dictionary.saes.items()}
    patcher = Patcher(PairRuns(tiny, task, task.pairs), saes)
    ran: list[int] = []
    patcher.patched([])  # what a module that is skipped returns is learned when it first is
    for i, layer in enumerate(tiny.hf.model.layers):
        layer.self_attn.register_forward_hook(lambda *_, i=i: ran.append(i))
    patcher.patched([Unit.parse(name)])
    assert ran == list(range(tiny.n_layers))[-layers:]


def test_hooks_are_gone_afterwards(tiny: HookedModel, letters: Callable[..., ContrastTask]) -> None:
    runs = PairRuns(tiny, letters(2), letters(2).pairs)
    patcher = Patcher(runs, {})
    patcher.patched(patcher.components)
    with torch.no_grad():
        torch.testing.assert_close(runs.forward(runs.clean), patcher.clean.metric)
