"""Whether an answer is nonsense: it loops, is not language, or the unsteered model finds it absurd.

The first two are seen in the text. The third is a perplexity blow-up: the unsteered model's
perplexity of the answer, given the prompt, is more than `BLOW_UP` times what it has for 95 % of its
own answers (and more than `FLOOR`, since greedy answers to easy questions have almost none).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from interpretops.answers import is_repetitive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import ReadPrompts

BLOW_UP = 10.0
FLOOR = 30.0
MIN_TOKENS = 4
"""Shorter answers are judged by their text alone: one unlikely word is not nonsense."""


def is_degenerate(answer: str, loss: float | None, limit: float) -> bool:
    """Whether an answer is nonsense. An empty answer is.

    Args:
        answer: Its text.
        loss: The unsteered model's mean negative log-likelihood of its tokens (nats), or None where
            the answer is the unsteered model's own or too short to tell.
        limit: What `loss_limit` says.
    """
    return is_repetitive(answer) or (loss is not None and loss > limit)


def loss_limit(own_losses: Sequence[float]) -> float:
    """The mean loss (nats per token) beyond which an answer is absurd to the unsteered model.

    Args:
        own_losses: Mean losses of the unsteered model's own answers.
    """
    if not len(own_losses):
        return math.log(FLOOR)
    typical = float(np.quantile(np.asarray(own_losses), 0.95))
    return max(math.log(FLOOR), typical + math.log(BLOW_UP))


def answer_losses(
    read: ReadPrompts, answers: Sequence[Sequence[int]], *, at_once: int = 16
) -> list[float | None]:
    """Mean negative log-likelihood of each answer's tokens given its prompt, in nats.

    None for answers of fewer than `MIN_TOKENS` tokens.

    Args:
        read: The prompts, as the unsteered model read them.
        answers: Token ids of an answer to each.
        at_once: How many answers' logits are in memory together.
    """
    found: list[float | None] = [None] * len(answers)
    rows = [row for row, answer in enumerate(answers) if len(answer) >= MIN_TOKENS]
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        logits = read.rows(some).logits_of([answers[row] for row in some])
        for row, scores in zip(some, logits, strict=True):
            ids = torch.tensor(answers[row], device=scores.device)
            loss = torch.nn.functional.cross_entropy(scores[: len(ids)].float(), ids)
            found[row] = float(loss)
    return found
