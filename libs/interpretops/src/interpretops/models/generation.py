"""Autoregressive generation over the Hugging Face module.

The loop is ours so that a caller sees every step (streaming, per-row policies, timing); every
forward is the model's. For greedy decoding it returns the tokens `model.generate` returns. Rows that
have ended leave the batch: the others do not wait for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from interpretops.errors import InterpretOpsError
from interpretops.models.batch import Batch
from interpretops.models.forward import Forward
from interpretops.models.reading import read_prompts
from interpretops.models.running import RunningCache
from interpretops.models.sampling import GREEDY, Chooser, Sampling, choose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interpretops.models.hooked import HookedModel
    from interpretops.models.reading import ReadPrompts


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
    model: HookedModel,
    prompts: Batch | ReadPrompts,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
) -> Iterator[Step]:
    """Yield one step after another until every row has ended or the limit is reached.

    Args:
        model: The model; hooks that are in force act on every forward.
        prompts: Left-padded prompts, or prompts that have been read.
        max_new_tokens: The limit per row.
        sampling: How tokens are chosen.

    Raises:
        InterpretOpsError: When the batch is padded on the right or exceeds the model's context.
    """
    lengths = prompts.lengths.tolist() if isinstance(prompts, Batch) else prompts.lengths
    room = model.max_positions - max(lengths)
    if room < 1:
        raise InterpretOpsError(
            f"a prompt of {max(lengths)} tokens leaves no room for an answer in the "
            f"model's context of {model.max_positions}",
            fix="shorten the prompt",
        )
    read = read_prompts(model, prompts) if isinstance(prompts, Batch) else prompts
    count = len(lengths)
    choosers = [Chooser(sampling, row) for row in range(count)]
    running = RunningCache(model)
    running.join(read.cache, range(count), lengths, shared=read.shared)
    rows, logits = list(range(count)), read.logits
    for answered in range(1, min(max_new_tokens, room) + 1):
        with torch.inference_mode():
            chosen = choose(logits, [choosers[row] for row in rows])
            index = torch.tensor(rows, device=model.device)
            tokens = chosen.new_full((count,), model.pad_id).index_copy(0, index, chosen)
            active = torch.zeros(count, dtype=torch.bool, device=model.device)
            active[index] = True
            ended = torch.isin(chosen, model.end_ids).tolist()
        yield Step(tokens, active, all(ended))
        if all(ended) or answered == min(max_new_tokens, room):
            return
        for place in reversed([place for place, end in enumerate(ended) if end]):
            # As in the cache: the last one takes its place.
            running.leave(place)
            rows[place] = rows[-1]
            rows.pop()
        with torch.inference_mode():
            running.make_room()
            cache, mask, positions = running.view(0, len(rows))
            logits = model.forward(
                tokens[torch.tensor(rows, device=model.device)][:, None],
                attention_mask=mask,
                position_ids=positions,
                cache=cache,
                logits_to_keep=1,
                running=Forward.step(answered, rows, model.device),
            )[:, -1]
            running.advance()
