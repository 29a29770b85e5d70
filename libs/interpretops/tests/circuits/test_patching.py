"""Exact patching: the two ends of it, and against replacement by hand."""

from __future__ import annotations

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


def test_hooks_are_gone_afterwards(tiny: HookedModel, letters: Callable[..., ContrastTask]) -> None:
    runs = PairRuns(tiny, letters(2), letters(2).pairs)
    patcher = Patcher(runs, {})
    patcher.patched(patcher.components)
    with torch.no_grad():
        torch.testing.assert_close(runs.forward(runs.clean), patcher.clean.metric)
