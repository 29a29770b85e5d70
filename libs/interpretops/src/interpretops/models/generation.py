"""Autoregressive generation over the Hugging Face module and its own key-value cache.

The loop is ours so that a caller sees every step (streaming, per-row policies, timing); every
forward is the model's. For greedy decoding it returns the tokens `model.generate` returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from interpretops.errors import InterpretOpsError
from interpretops.models.forward import Forward
from interpretops.models.sampling import GREEDY, Chooser, Sampling, choose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interpretops.models.batch import Batch
    from interpretops.models.hooked import HookedModel


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
    choosers = [Chooser(sampling, row) for row in range(len(batch))]
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
            tokens = choose(logits, choosers)
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
