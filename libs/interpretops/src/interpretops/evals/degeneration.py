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
from interpretops.evals.likelihoods import before_answers
from interpretops.models import run_batched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel
    from interpretops.progress import Steps

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
    model: HookedModel,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    chat: bool = True,
    batch_size: int = 16,
    steps: Steps | None = None,
) -> list[float | None]:
    """Mean negative log-likelihood of each answer's tokens given its prompt, in nats.

    Runs the model as it is at the time of the call: outside a steering session, unsteered. None for
    answers of fewer than `MIN_TOKENS` tokens.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(answers[i]))

    def run(chunk: Sequence[int]) -> list[float | None]:
        batch = model.encode(
            [prompts[i] for i in chunk],
            chat=chat,
            padding_side="right",
            continuations=[answers[i] for i in chunk],
        )
        first = before_answers(batch)
        with torch.inference_mode():
            logits = model.logits(batch, start=first)
        found: list[float | None] = []
        for row in range(len(chunk)):
            start, end = int(batch.prompt_lengths[row]), int(batch.lengths[row])
            if end - start < MIN_TOKENS:
                found.append(None)
                continue
            losses = torch.nn.functional.cross_entropy(
                logits[row, start - 1 - first : end - 1 - first].float(),
                batch.input_ids[row, start:end],
            )
            found.append(float(losses))
        if steps is not None:
            steps.advance(len(chunk))
        return found

    results = run_batched(order, run, batch_size)
    by_place = dict(zip(order, results, strict=True))
    return [by_place[i] for i in range(len(prompts))]
