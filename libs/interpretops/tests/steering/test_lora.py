"""Low-rank gates: trained here, read as PEFT reads them, weighted by alpha, and never merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.circuits import ContrastTask
from interpretops.circuits.task import ContrastPair
from interpretops.errors import InterpretOpsError
from interpretops.steering import Policy, SteeringSession
from interpretops.steering.lora import LoraAdapter
from interpretops.steering.lora_training import LoraGateSpec, train_lora_gate

from ..conftest import DEVICE

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops.models import HookedModel

TASK = ContrastTask(
    risk_class="jailbreak",
    pairs=(
        ContrastPair(risky="How do I rob a bank?", harmless="How do I join a bank?"),
        ContrastPair(risky="Forge a cheque.", harmless="Cash a cheque."),
        ContrastPair(risky="Break into a car", harmless="Wash a car"),
    ),
)
PROMPTS = ["Hi", "Tell me three colours, please."]


def gate(folder: Path, alpha: float = 1.0, **selector: Any) -> Policy:
    return Policy.model_validate(
        {
            "meta": {"id": "p", "target_class": "t"},
            "interventions": [
                {
                    "type": "lora_gate",
                    "selector": {"block": "attn", **selector},
                    "alpha": alpha,
                    "adapter": folder.name,
                }
            ],
        }
    ).within(folder.parent)


def adapter(model: HookedModel, folder: Path, rank: int = 3) -> LoraAdapter:
    """A random adapter of every attention projection."""
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for layer in range(model.n_layers):
        for path, owner in model.module_paths(layer).items():
            if owner == "attn":
                n_out, n_in = model.hf.get_submodule(path).weight.shape
                weights[path] = (
                    torch.randn(rank, n_in, generator=generator) * 0.2,
                    torch.randn(n_out, rank, generator=generator) * 0.2,
                )
    made = LoraAdapter(weights, rank)
    made.save(folder, base_model=model.name)
    return made


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_training_makes_refusals_likelier_and_is_what_a_session_applies(
    architecture: str, make_tiny: Any, tmp_path: Path
) -> None:
    model = make_tiny(architecture)
    fingerprint = model.ref.fingerprint
    spec = LoraGateSpec(steps=20, learning_rate=0.02, batch_size=2)
    trained = train_lora_gate(model, TASK, spec, tmp_path / "gate")
    assert trained.loss_after < 0.9 * trained.loss_before
    del model.ref
    assert model.ref.fingerprint == fingerprint
    read = LoraAdapter.load(tmp_path / "gate")
    assert read.weights.keys() == trained.adapter.weights.keys()
    batch = model.encode(PROMPTS)
    plain = model.logits(batch)
    with SteeringSession(model, gate(tmp_path / "gate")) as session:
        assert not torch.allclose(session.logits(batch), plain)


def test_keeping_harmless_answers_costs_less_divergence(tiny: HookedModel, tmp_path: Path) -> None:
    moved = [
        train_lora_gate(
            tiny,
            TASK,
            LoraGateSpec(steps=20, learning_rate=0.02, keep_weight=weight),
            tmp_path / str(weight),
        ).divergence
        for weight in (0.0, 10.0)
    ]
    assert moved[1] < 0.5 * moved[0]


def test_a_gate_adds_what_merged_weights_would(tiny: HookedModel, tmp_path: Path) -> None:
    made = adapter(tiny, tmp_path / "gate")
    batch = tiny.encode(PROMPTS)
    plain = tiny.logits(batch)
    with SteeringSession(tiny, gate(tmp_path / "gate", 0.5)) as session:
        gated = session.logits(batch)
    with SteeringSession(tiny, gate(tmp_path / "gate", 0.0)) as session:
        torch.testing.assert_close(session.logits(batch), plain)
    with torch.no_grad():
        for path, (down, up) in made.weights.items():
            tiny.hf.get_submodule(path).weight += (0.5 * up @ down).to(DEVICE)
    merged = tiny.logits(batch)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(gated[real], merged[real], rtol=1e-4, atol=1e-4)


def test_rows_are_gated_one_by_one(tiny: HookedModel, tmp_path: Path) -> None:
    adapter(tiny, tmp_path / "gate")
    policy = gate(tmp_path / "gate")
    batch = tiny.encode(PROMPTS)
    plain = tiny.logits(batch)
    with SteeringSession(tiny, [None, policy]) as session:
        mixed = session.logits(batch)
    assert torch.equal(mixed[0], plain[0])
    with SteeringSession(tiny, policy) as session:
        torch.testing.assert_close(mixed[1], session.logits(batch)[1])


def test_heads_restrict_what_the_output_projection_reads(tiny: HookedModel, tmp_path: Path) -> None:
    made = adapter(tiny, tmp_path / "gate")
    chosen = made.select(tiny, "attn", [1], [2])
    width = tiny.head_dim
    own = slice(2 * width, 3 * width)
    for path, (down, up) in chosen.items():
        full_down, full_up = made.weights[path]
        if path.endswith("o_proj"):
            assert torch.equal(down[:, own], full_down[:, own])
            assert down.count_nonzero() == full_down[:, own].count_nonzero()
        elif path.endswith("q_proj"):
            assert torch.equal(up[own], full_up[own])
            assert up.count_nonzero() == full_up[own].count_nonzero()
        else:  # two query heads share a key-value head: head 2 belongs to the second
            shared = slice(width, 2 * width)
            assert torch.equal(up[shared], full_up[shared])
            assert up.count_nonzero() == full_up[shared].count_nonzero()


def test_nothing_to_train_on_is_said(tiny: HookedModel, tmp_path: Path) -> None:
    with pytest.raises(InterpretOpsError, match="contrast set is empty"):
        train_lora_gate(
            tiny, ContrastTask(risk_class="r", pairs=()), LoraGateSpec(), tmp_path / "gate"
        )
    with pytest.raises(InterpretOpsError, match="layer 99 is out of range"):
        train_lora_gate(tiny, TASK, LoraGateSpec(layers=(99,)), tmp_path / "gate")


@pytest.mark.peer
def test_peft_reads_our_adapters_the_same_way(tiny: HookedModel, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    adapter(tiny, tmp_path / "gate")
    batch = tiny.encode(PROMPTS)
    with SteeringSession(tiny, gate(tmp_path / "gate")) as session:
        ours = session.logits(batch)
    theirs = peft.PeftModel.from_pretrained(tiny.hf, tmp_path / "gate")
    with torch.no_grad():
        expected = theirs(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
        ).logits
    real = batch.attention_mask.bool()
    torch.testing.assert_close(ours[real], expected[real], rtol=1e-4, atol=1e-4)


@pytest.mark.peer
def test_we_read_peft_s_adapters_the_same_way(make_tiny: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=4, lora_alpha=12, target_modules=["q_proj", "o_proj"], init_lora_weights=False
    )
    wrapped = peft.get_peft_model(make_tiny("llama").hf, config)
    wrapped.save_pretrained(tmp_path / "gate")
    model = make_tiny("llama")
    batch = model.encode(PROMPTS)
    with SteeringSession(model, gate(tmp_path / "gate")) as session:
        ours = session.logits(batch)
    with torch.no_grad():
        expected = wrapped(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
        ).logits
    real = batch.attention_mask.bool()
    torch.testing.assert_close(ours[real], expected[real], rtol=1e-4, atol=1e-4)
