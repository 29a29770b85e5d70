"""Training a small low-rank adapter that refuses what is risky and leaves the rest as it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from interpretops.answers import REFUSALS
from interpretops.errors import InterpretOpsError
from interpretops.progress import SILENT, Monitor, Steps
from interpretops.steering.lora import LoraAdapter
from interpretops.steering.objective import AnswerObjective
from interpretops.steering.probe import template_tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from interpretops.circuits import ContrastTask
    from interpretops.models import HookedModel, SiteHooks


class LoraGateSpec(BaseModel):
    """How an adapter for a `lora_gate` is trained.

    Attributes:
        block: Which block's projections are adapted.
        layers: In which layers; None for all.
        rank: The adapter's rank.
        steps: Steps of Adam, each on one batch of risky and one of harmless prompts.
        learning_rate: Adam's.
        keep_weight: Weight of the divergence on harmless prompts, in nats per token.
        answer_tokens: How much of the model's own answers to harmless prompts is to be kept.
        batch_size: Prompts of either kind per step.
        seed: Of the initial weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    block: Literal["attn", "mlp"] = "attn"
    layers: tuple[int, ...] | None = None
    rank: int = Field(default=4, ge=1, le=256)
    steps: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    keep_weight: float = Field(default=1.0, ge=0)
    answer_tokens: int = Field(default=8, ge=1)
    batch_size: int = Field(default=8, ge=1)
    seed: int = 0


@dataclass(frozen=True)
class TrainedGate:
    """An adapter, and what training did on the prompts it saw.

    Attributes:
        adapter: The adapter.
        loss_before: Mean negative log-likelihood per token of refusals to risky prompts.
        loss_after: The same with the adapter at alpha 1.
        divergence: Mean KL divergence from the unadapted model on harmless prompts, nats per token.
        n: Prompts of each kind.
    """

    adapter: LoraAdapter
    loss_before: float
    loss_after: float
    divergence: float
    n: int


def train_lora_gate(
    model: HookedModel,
    task: ContrastTask,
    spec: LoraGateSpec,
    folder: Path,
    *,
    monitor: Monitor = SILENT,
) -> TrainedGate:
    """Train an adapter on a contrast set and write it in PEFT's format.

    It learns to refuse the risky prompts, and not to change the model's answers to their harmless
    twins. It acts from the end of the prompt on, which is where a policy that uses it should apply it:
    `span: {prompt_tail: N}` with N the length of the chat template's end. The model's weights are never
    touched.

    Args:
        model: The model.
        task: Risky prompts and their harmless twins, of the training split.
        spec: How to train.
        folder: Where the adapter goes.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When there are no pairs, or no projection is selected.
    """
    if not task.pairs:
        raise InterpretOpsError(
            "the contrast set is empty",
            fix="give at least one pair of a risky and a harmless prompt",
        )
    weights = _start(model, spec)
    parameters = [tensor for pair in weights.values() for tensor in pair]
    tail = template_tail(model)
    risky, harmless = zip(*((pair.risky, pair.harmless) for pair in task.pairs), strict=True)
    answers = _answers(model, harmless, spec, monitor)
    batches = math.ceil(len(risky) / spec.batch_size)
    steps = Steps(monitor, "measuring the model as it is", 4 * batches)
    size = spec.batch_size
    refuse = AnswerObjective(model, risky, REFUSALS, tail=tail, batch_size=size, steps=steps)
    keep = AnswerObjective(model, harmless, answers, tail=tail, batch_size=size, steps=steps)
    reference = []
    with torch.no_grad():
        before = refuse.mean_loss(steps)
        for i in range(len(keep)):
            reference.append(keep.log_probabilities(i))
            steps.advance()
    optimiser = torch.optim.Adam(parameters, lr=spec.learning_rate)
    for step in range(spec.steps):
        i = step % len(refuse)
        with model.hooks() as hooks:
            _attach(hooks, weights)
            loss = refuse.loss(i)
            divergence = keep.divergence(i, reference[i])
        optimiser.zero_grad()
        torch.autograd.backward(loss + spec.keep_weight * divergence, inputs=parameters)
        optimiser.step()
        monitor.update(
            "training the adapter",
            step + 1,
            spec.steps,
            loss=float(loss.detach()),
            divergence=float(divergence.detach()),
        )
    with model.hooks() as hooks, torch.no_grad():
        _attach(hooks, weights)
        steps = Steps(monitor, "measuring the adapter", 2 * batches)
        after = refuse.mean_loss(steps)
        moved = 0.0
        for i, log_probabilities in enumerate(reference):
            moved += float(keep.divergence(i, log_probabilities)) / len(keep)
            steps.advance()
    adapter = LoraAdapter(
        {path: (down.detach(), up.detach()) for path, (down, up) in weights.items()}, spec.rank
    )
    adapter.save(folder, base_model=model.name)
    return TrainedGate(adapter, before, after, moved, len(task.pairs))


def _start(model: HookedModel, spec: LoraGateSpec) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Initial weights by module path: `down` random, `up` zero, so that training starts at the model."""
    layers = range(model.n_layers) if spec.layers is None else spec.layers
    generator = torch.Generator().manual_seed(spec.seed)
    weights = {}
    for path, (n_in, n_out) in _projections(model, layers, spec.block):
        down = torch.randn(spec.rank, n_in, generator=generator) / math.sqrt(n_in)
        up = torch.zeros(n_out, spec.rank)
        weights[path] = (
            down.to(model.device).requires_grad_(),
            up.to(model.device).requires_grad_(),
        )
    if not weights:
        raise InterpretOpsError(
            f"no {spec.block} projection is selected", fix="select at least one layer"
        )
    return weights


def _projections(
    model: HookedModel, layers: Sequence[int], block: str
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Path and `(in, out)` width of the projections of a block."""
    for layer in layers:
        if not 0 <= layer < model.n_layers:
            raise InterpretOpsError(
                f"layer {layer} is out of range", fix=f"choose from 0 to {model.n_layers - 1}"
            )
        for path, owner in model.module_paths(layer).items():
            if owner == block:
                module = model.hf.get_submodule(path)
                # nn.Linear keeps [out, in]; GPT-2's Conv1D keeps [in, out].
                shape = tuple(module.weight.shape)
                yield path, (shape[1], shape[0]) if hasattr(module, "in_features") else shape


def _answers(
    model: HookedModel, prompts: Sequence[str], spec: LoraGateSpec, monitor: Monitor
) -> list[str]:
    """How the model by itself begins its answers."""
    steps = Steps(monitor, "answering harmless prompts", len(prompts))
    answers: list[str] = []
    for start in range(0, len(prompts), spec.batch_size):
        chunk = list(prompts[start : start + spec.batch_size])
        answers += model.generate(chunk, spec.answer_tokens)
        steps.advance(len(chunk))
    return answers


def _attach(hooks: SiteHooks, weights: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    for path, (down, up) in weights.items():

        def add(
            x: torch.Tensor,
            y: torch.Tensor,
            down: torch.Tensor = down,
            up: torch.Tensor = up,
        ) -> torch.Tensor:
            return y + ((x.to(down.dtype) @ down.T) @ up.T).to(y.dtype)

        hooks.wrap(path, add)
