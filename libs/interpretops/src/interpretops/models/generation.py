"""Autoregressive generation over the Hugging Face module and its own key-value cache.

The loop is ours so that a caller sees every step (streaming, per-row policies, timing); every
forward is the model's. For greedy decoding it returns the tokens `model.generate` returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import DynamicCache

from interpretops.errors import InterpretOpsError
from interpretops.models.forward import Forward

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interpretops.models.batch import Batch
    from interpretops.models.hooked import HookedModel


class Sampling(BaseModel):
    """How the next token is chosen. A temperature of 0 takes the most likely one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int | None = None


GREEDY = Sampling()


@dataclass(frozen=True)
class Step:
    """One decoding step.

    Attributes:
        tokens: `[batch]` int64, the token each row produced (the pad token for finished rows).
        active: `[batch]` bool, rows that had not finished before this step.
        finished: Whether every row has finished with this step.
    """

    tokens: torch.Tensor
    active: torch.Tensor
    finished: bool


def decode(
    model: HookedModel, batch: Batch, max_new_tokens: int, sampling: Sampling = GREEDY
) -> Iterator[Step]:
    """Yield one step after another until every row has ended or the limit is reached.

    Args:
        model: The model; hooks that are in force act on every forward.
        batch: Left-padded prompts.
        max_new_tokens: The limit per row.
        sampling: How tokens are chosen.

    Raises:
        InterpretOpsError: When the batch is padded on the right or exceeds the model's context.
    """
    if batch.padding_side != "left" and batch.padded:
        raise InterpretOpsError(
            "generation needs left padding", fix="encode with padding_side='left'"
        )
    room = model.max_positions - int(batch.lengths.max())
    if room < 1:
        raise InterpretOpsError(
            f"a prompt of {int(batch.lengths.max())} tokens leaves no room for an answer in the "
            f"model's context of {model.max_positions}",
            fix="shorten the prompt",
        )
    generator = _generator(sampling, model.device)
    cache = DynamicCache(config=model.config.get_text_config())
    ends = model.end_ids
    input_ids, positions = batch.input_ids, batch.position_ids
    # Without padding no mask is needed, and attention takes its faster causal path.
    mask = batch.attention_mask if batch.padded else None
    running = Forward.over(batch)
    active = torch.ones(len(batch), dtype=torch.bool, device=model.device)
    for _ in range(min(max_new_tokens, room)):
        with torch.inference_mode():
            logits = model.forward(
                input_ids,
                attention_mask=mask,
                position_ids=positions,
                cache=cache,
                logits_to_keep=1,
                running=running,
            )[:, -1]
            tokens = _choose(logits, sampling, generator)
            tokens = torch.where(active, tokens, model.pad_id)
            was_active = active
            active = active & ~torch.isin(tokens, ends)
            finished = not bool(active.any())
            input_ids = tokens[:, None]
            positions = positions[:, -1:] + 1
            if mask is not None:
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=-1)
            running = running.following()
        yield Step(tokens, was_active, finished)
        if finished:
            return


def _generator(sampling: Sampling, device: torch.device) -> torch.Generator | None:
    if sampling.temperature == 0.0 or sampling.seed is None:
        return None
    return torch.Generator(device=device).manual_seed(sampling.seed)


def _choose(
    logits: torch.Tensor, sampling: Sampling, generator: torch.Generator | None
) -> torch.Tensor:
    """The next token of each row, `[batch]`, from logits `[batch, vocab]`."""
    if sampling.temperature == 0.0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    if sampling.top_p < 1.0:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        # Keep a token while the mass before it is below top_p: the first is always kept.
        ordered[ordered.cumsum(-1) - ordered >= sampling.top_p] = 0.0
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
