"""How the next token of each row is chosen."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sampling(BaseModel):
    """How the next token is chosen. A temperature of 0 takes the most likely one.

    Under a seed a row draws the same tokens on every device and whatever else is in its batch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int | None = None


GREEDY = Sampling()

_LIKELY = 512
"""So many of the likeliest tokens almost always hold `top_p`; finding them is cheaper than sorting."""


class Chooser:
    """Chooses the tokens of one row.

    Args:
        sampling: How.
        row: Place in a batch whose rows share a seed, so that equal prompts draw different tokens.
    """

    def __init__(self, sampling: Sampling, row: int = 0) -> None:
        self.sampling = sampling
        # One uniform number a token, drawn on the host: cheap, and the same for every device.
        seed = None if sampling.seed is None else f"{sampling.seed}/{row}"
        self._random = random.Random(seed)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.sampling.temperature == 0.0

    def draw(self) -> float:
        """The next uniform number of this row, in [0, 1)."""
        return self._random.random()


def choose(logits: torch.Tensor, choosers: Sequence[Chooser]) -> torch.Tensor:
    """The next token of each row, `[batch]` int64, from logits `[batch, vocab]`."""
    tokens = logits.argmax(-1)
    drawn = [row for row, chooser in enumerate(choosers) if not chooser.greedy]
    for whole in (True, False):  # rows without top_p need no order
        rows = [row for row in drawn if (choosers[row].sampling.top_p >= 1.0) is whole]
        if rows:
            index = torch.tensor(rows, device=logits.device)
            some = [choosers[row] for row in rows]
            tokens = tokens.index_copy(0, index, _draw(logits[index], some, whole=whole))
    return tokens


def _draw(logits: torch.Tensor, choosers: Sequence[Chooser], *, whole: bool) -> torch.Tensor:
    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    temperature = column([chooser.sampling.temperature for chooser in choosers])
    uniform = column([chooser.draw() for chooser in choosers])
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if whole:
        return _invert(probabilities.cumsum(-1), uniform)
    top_p = column([chooser.sampling.top_p for chooser in choosers])
    likely, order = probabilities.topk(min(_LIKELY, probabilities.shape[-1]), dim=-1)
    if bool((likely.sum(-1, keepdim=True) < top_p).any()):
        likely, order = probabilities.sort(dim=-1, descending=True)
    # A token is kept while the mass before it is below top_p: the first is always kept.
    likely = likely.masked_fill(likely.cumsum(-1) - likely >= top_p, 0.0)
    return order.gather(-1, _invert(likely.cumsum(-1), uniform)[:, None])[:, 0]


def _invert(cumulative: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Where each row's cumulative distribution `[batch, n]` passes a share of its total."""
    found = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]
    # Rounding can carry the share past the last token that has any mass.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())[:, 0]
    return torch.minimum(found, last)
