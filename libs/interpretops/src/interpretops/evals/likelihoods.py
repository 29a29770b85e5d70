"""What a model finds likely: of texts, of endings, and how far steering moves its predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from interpretops.models import Batch, HookedModel
    from interpretops.prompts import Prompt


_ON_A_CPU = 4


def texts_at_a_time(model: HookedModel, batch_size: int) -> int:
    """How many texts one forward reads where nothing is generated.

    On a CPU few: more are no faster there, and keep whoever watches or stops the work waiting.
    """
    return min(batch_size, _ON_A_CPU) if model.device.type == "cpu" else batch_size


def before_answers(batch: Batch) -> int:
    """The first position of a batch that predicts a token of an answer."""
    return int(batch.prompt_lengths.min()) - 1


class Likelihood(NamedTuple):
    """How likely a text, or the end of one, is to the model.

    Attributes:
        loss: Summed negative log-likelihood of its tokens, in nats.
        tokens: How many tokens that is.
        greedy: Whether every token was the likeliest one.
    """

    loss: float
    tokens: int
    greedy: bool


def likelihoods(
    model: HookedModel, texts: Sequence[str], endings: Sequence[str] | None, *, chat: bool
) -> list[Likelihood]:
    """Likelihoods of texts, or of their endings given them."""
    spaced = None
    if endings is not None:
        spaced = [t if chat or t.startswith(" ") else f" {t}" for t in endings]
    batch = model.encode(texts, chat=chat, padding_side="right", continuations=spaced)
    first = 0 if endings is None else before_answers(batch)
    with torch.inference_mode():
        logits = model.logits(batch, start=first)
    found = []
    for row in range(len(batch)):
        start = 1 if endings is None else int(batch.prompt_lengths[row])
        end = int(batch.lengths[row])
        if end <= start:  # a text of one token predicts nothing
            found.append(Likelihood(0.0, 0, greedy=False))
            continue
        ids = batch.input_ids[row, start:end]
        scores = logits[row, start - 1 - first : end - 1 - first].float()
        loss = torch.nn.functional.cross_entropy(scores, ids, reduction="sum")
        greedy = bool((scores.argmax(-1) == ids).all())
        found.append(Likelihood(float(loss), end - start, greedy))
    return found


def prefers_right(model: HookedModel, prompts: Sequence[Prompt], *, chat: bool) -> list[bool]:
    """Whether the model prefers what is right.

    Of a prompt with a target: whether greedy decoding would say the target. Of a prompt with a
    twin: whether the prompt is likelier than its twin.
    """
    found = [False] * len(prompts)
    rows = [i for i, prompt in enumerate(prompts) if prompt.target is not None]
    if rows:
        texts = [prompts[i].text for i in rows]
        endings = [prompts[i].target or "" for i in rows]
        for i, ending in zip(rows, likelihoods(model, texts, endings, chat=chat), strict=True):
            found[i] = ending.greedy
    rows = [i for i, prompt in enumerate(prompts) if prompt.target is None]
    if rows:
        good = likelihoods(model, [prompts[i].text for i in rows], None, chat=False)
        bad = likelihoods(model, [prompts[i].twin or "" for i in rows], None, chat=False)
        for i, one, other in zip(rows, good, bad, strict=True):
            found[i] = one.loss < other.loss
    return found


def kl_to_base(
    model: HookedModel,
    prompts: Sequence[str],
    answers: Sequence[str],
    steering: Callable[[], AbstractContextManager[object]],
    *,
    chat: bool,
) -> list[float]:
    """Mean KL(unsteered || steered) per token of the unsteered model's answers, in nats."""
    batch = model.encode(prompts, chat=chat, padding_side="right", continuations=answers)
    first = before_answers(batch)
    with torch.inference_mode():
        bare = model.logits(batch, start=first)
        with steering():
            steered = model.logits(batch, start=first)
    found = []
    for row in range(len(batch)):
        # from the position that predicts the answer's first token
        span = slice(int(batch.prompt_lengths[row]) - 1 - first, int(batch.lengths[row]) - first)
        p = torch.log_softmax(bare[row, span].float(), -1)
        q = torch.log_softmax(steered[row, span].float(), -1)
        found.append(float((p.exp() * (p - q)).sum(-1).mean()))
    return found
