"""What the positions of a running forward are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from interpretops.models.batch import Batch


@dataclass(frozen=True)
class Forward:
    """The forward that is running, for hooks that must know what each position is.

    Attributes:
        real: `[batch, seq]` bool, whether a position holds a token (and not padding).
        offset: `[batch, seq]` int64, how far a position is from the last token of its prompt: 0 there,
            negative before it, 1 at the first token of the answer, 2 at the second.
        decoding: Whether it runs over the one token per row that came last, and not over prompts.
    """

    real: torch.Tensor
    offset: torch.Tensor
    decoding: bool = False

    @classmethod
    def over(cls, batch: Batch) -> Forward:
        """The forward over a whole batch: prompts, and continuations if it has them."""
        index = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
        return cls(batch.attention_mask.bool(), index[None] - batch.last_prompt[:, None])

    def following(self) -> Forward:
        """The forward over the one token per row that comes next."""
        return Forward(torch.ones_like(self.real[:, :1]), self.offset[:, -1:] + 1, decoding=True)
