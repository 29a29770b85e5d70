"""What the positions of a running forward are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models.batch import Batch


@dataclass(frozen=True)
class Forward:
    """The forward that is running, for hooks that must know what each position is.

    Attributes:
        real: `[batch, seq]` bool, whether a position holds a token (and not padding).
        offset: `[batch, seq]` int64, how far a position is from the last token of its prompt: 0 there,
            negative before it, 1 at the first token of the answer, 2 at the second.
        decoding: Whether it runs over the one token per row that came last, and not over prompts.
        rows: Which rows of the batch it runs over, where it is not all of them: those that have ended
            leave.
    """

    real: torch.Tensor
    offset: torch.Tensor
    decoding: bool = False
    rows: tuple[int, ...] | None = None

    @classmethod
    def over(cls, batch: Batch) -> Forward:
        """The forward over a whole batch: prompts, and continuations if it has them."""
        index = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
        return cls(batch.attention_mask.bool(), index[None] - batch.last_prompt[:, None])

    @classmethod
    def step(cls, answered: int, rows: Sequence[int], device: torch.device) -> Forward:
        """The forward over the token that came last of each of some rows, each its `answered`-th."""
        real = torch.ones(len(rows), 1, dtype=torch.bool, device=device)
        return cls(real, torch.full_like(real, answered, dtype=torch.int64), True, tuple(rows))
