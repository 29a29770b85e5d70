"""Training dictionaries at several sites from one pass of activations, resumable at any step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interpretops.errors import Cancelled, InterpretOpsError
from interpretops.progress import SILENT, Monitor
from interpretops.sae.trainer import SAETrainer, StepFigures, new_sae

if TYPE_CHECKING:
    from collections.abc import Callable

    from interp_engine import Address

    from interpretops.sae.activations import ActivationSource
    from interpretops.sae.module import SAE
    from interpretops.sae.spec import DictionarySpec

    SaveCheckpoint = Callable[[dict[str, Tensor]], None]

STAGE = "training dictionaries"
_SAMPLE = 16_384
"""Rows from which the input's scale, biases and thresholds are first set."""


def fit(
    source: ActivationSource,
    spec: DictionarySpec,
    *,
    device: torch.device | str = "cpu",
    resume_from: dict[str, Tensor] | None = None,
    save_checkpoint: SaveCheckpoint | None = None,
    monitor: Monitor = SILENT,
) -> dict[Address, SAE]:
    """Train one dictionary per site of `source`.

    Rows are taken in chunks of `spec.buffer_tokens`, mixed by a permutation fixed by seed and chunk
    number, and cut into batches. A run that goes on from a checkpoint computes the chunk it was in
    again and goes on at the next batch, so it ends with the weights of an uninterrupted run.

    Args:
        source: The activations.
        spec: What to train.
        device: Where.
        resume_from: The last checkpoint.
        save_checkpoint: Called with every tensor that the rest of the run depends on.
        monitor: Told loss, L0, FVU, share of dead features and speed after each step.

    Returns:
        Dictionaries that take raw activations, by site.

    Raises:
        InterpretOpsError: When there are fewer rows than one batch, `k` does not fit the width, or
            an activation is not finite.
        Cancelled: When the monitor asked to stop; a checkpoint was saved.
    """
    if source.n_rows < spec.batch:
        raise InterpretOpsError(
            f"there are {source.n_rows} activations to train on, fewer than one batch of "
            f"{spec.batch}",
            fix="give more text, or lower batch",
        )
    trainers = _new_trainers(source, spec, device)
    scales: dict[Address, float] = {}
    if resume_from is not None:
        for address, trainer in trainers.items():
            state = _of_site(resume_from, address)
            scales[address] = float(state.pop("input_scale"))
            trainer.load_state(state)

    def save() -> None:
        if save_checkpoint is not None:
            save_checkpoint(_checkpoint(trainers, scales))

    done = next(iter(trainers.values())).step_index
    try:
        _run(source, spec, trainers, scales, device, save, monitor)
    except Cancelled:
        if scales:
            save()
        raise
    if done < spec.steps:
        save()
    for address, trainer in trainers.items():
        trainer.sae.finish(spec)
        trainer.sae.fold_input_scale(scales[address])
    return {address: trainer.sae.requires_grad_(False) for address, trainer in trainers.items()}


def _run(
    source: ActivationSource,
    spec: DictionarySpec,
    trainers: dict[Address, SAETrainer],
    scales: dict[Address, float],
    device: torch.device | str,
    save: Callable[[], None],
    monitor: Monitor,
) -> None:
    """Do the steps that are left. `Cancelled` leaves every trainer between two steps."""
    per_chunk = min(max(1, spec.buffer_tokens // spec.batch), spec.steps)
    chunk: dict[Address, Tensor] = {}
    order = torch.empty(0, dtype=torch.int64)
    loaded = -1
    for step in range(next(iter(trainers.values())).step_index, spec.steps):
        number, place = divmod(step, per_chunk)
        if number != loaded:
            chunk.clear()  # before the next one is made: two at a time would double the memory
            first = number * per_chunk * spec.batch
            rows_here = min(per_chunk, spec.steps - number * per_chunk) * spec.batch
            chunk.update(source.rows(first, first + rows_here))
            mixer = torch.Generator().manual_seed((spec.seed + 1) * 7_368_787 + number)
            order = torch.randperm(rows_here, generator=mixer)
            loaded = number
        if not scales:
            for address, trainer in trainers.items():
                scales[address] = _begin(trainer, chunk[address], spec, device)
        picked = order[place * spec.batch : (place + 1) * spec.batch]
        started = time.perf_counter()
        figures = []
        for address, trainer in trainers.items():
            x = chunk[address][picked.to(chunk[address].device)].to(device, torch.float32)
            figures.append(trainer.step(x * scales[address]))
        rate = spec.batch / (time.perf_counter() - started)
        if (step + 1) % spec.checkpoint_steps == 0 and step + 1 < spec.steps:
            save()
        monitor.update(STAGE, step + 1, spec.steps, **_mean(figures), tokens_per_s=rate)


def _new_trainers(
    source: ActivationSource, spec: DictionarySpec, device: torch.device | str
) -> dict[Address, SAETrainer]:
    trainers = {}
    for number, (address, d_in) in enumerate(source.widths.items()):
        generator = torch.Generator().manual_seed(spec.seed * 1009 + number)
        sae = new_sae(spec, d_in, spec.width(d_in), address=address, generator=generator)
        trainers[address] = SAETrainer(sae.to(device), spec, spec.steps, spec.batch)
    return trainers


def _begin(
    trainer: SAETrainer, rows: Tensor, spec: DictionarySpec, device: torch.device | str
) -> float:
    """Set what depends on data; returns the factor that inputs are multiplied by."""
    sample = rows[:: max(1, rows.shape[0] // _SAMPLE)].to(device, torch.float32)
    finite = torch.isfinite(sample).all(-1)
    sample = sample[finite]  # what is broken is reported by the step that meets it
    scale = 1.0
    if spec.normalize_input and sample.shape[0]:
        scale = float(sample.shape[1] ** 0.5 / sample.norm(dim=1).mean().clamp(min=1e-8))
    if sample.shape[0]:
        trainer.begin(sample * scale, spec.b_dec_init)
    return scale


def _checkpoint(
    trainers: dict[Address, SAETrainer], scales: dict[Address, float]
) -> dict[str, Tensor]:
    tensors = {}
    for address, trainer in trainers.items():
        state = trainer.state()
        # float64, so that a resumed run multiplies by the same number
        state["input_scale"] = torch.tensor(scales[address], dtype=torch.float64)
        tensors.update({f"{address}/{name}": value for name, value in state.items()})
    return tensors


def _of_site(tensors: dict[str, Tensor], address: Address) -> dict[str, Tensor]:
    prefix = f"{address}/"
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _mean(figures: list[StepFigures]) -> dict[str, float]:
    each = [f.as_floats() for f in figures]
    return {name: sum(f[name] for f in each) / len(each) for name in each[0]}
