"""What fitting minimises: how unlikely given answers are, computed over the prompt's end and the answer.

An intervention that begins at the last tokens of a prompt does not change what comes before them, so
keys and values of everything earlier are computed once and reused by every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from interpretops.models import Batch, Forward, whole_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel
    from interpretops.progress import Steps


@dataclass(frozen=True)
class _Segment:
    """A batch split at the prompts' tails: a cached prefix, and what is run at every step."""

    prefix: list[tuple[torch.Tensor, torch.Tensor]]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    running: Forward
    wanted: torch.Tensor


class AnswerObjective:
    """Mean negative log-likelihood, per token, of given answers to prompts.

    Args:
        model: The model.
        prompts: What is to be answered.
        answers: The wanted answers, dealt out to the prompts in turn.
        tail: How many last prompt tokens are run (and may be changed) at every step.
        chat: Whether prompts are a user's turns that are answered, or plain text that goes on.
        whole: Whether an answer ends where it ends, or might go on.
        batch_size: Prompts per batch.
        steps: Told of every batch that was prepared.
    """

    def __init__(
        self,
        model: HookedModel,
        prompts: Sequence[str],
        answers: Sequence[str],
        *,
        tail: int,
        chat: bool = True,
        whole: bool = True,
        batch_size: int = 16,
        steps: Steps | None = None,
    ) -> None:
        self.model = model
        self.tail = tail
        self._chat, self._whole = chat, whole
        dealt = [answers[i % len(answers)] for i in range(len(prompts))]
        self._segments: list[_Segment] = []
        for i in range(0, len(prompts), batch_size):
            chosen = slice(i, i + batch_size)
            self._segments.append(self._prepare(prompts[chosen], dealt[chosen]))
            if steps is not None:
                steps.advance()

    def __len__(self) -> int:
        return len(self._segments)

    def loss(self, batch: int) -> torch.Tensor:
        """The loss of one batch under the hooks in force, with its graph."""
        segment = self._segments[batch]
        targets = segment.input_ids[:, self.tail :]
        return -self._mean(
            self.log_probabilities(batch).gather(-1, targets[..., None])[..., 0], batch
        )

    def log_probabilities(self, batch: int) -> torch.Tensor:
        """Log-probabilities of every token of the answers, `[rows, answer, vocab]` float32."""
        segment = self._segments[batch]
        cache = whole_cache()
        for layer, (keys, values) in enumerate(segment.prefix):
            cache.update(keys, values, layer)
        logits = self.model.forward(
            segment.input_ids,
            attention_mask=segment.attention_mask,
            position_ids=segment.position_ids,
            cache=cache,
            running=segment.running,
        )
        return torch.log_softmax(logits[:, self.tail - 1 : -1].float(), dim=-1)

    def divergence(self, batch: int, reference: torch.Tensor) -> torch.Tensor:
        """Mean KL divergence, in nats per token, from reference log-probabilities of a batch."""
        now = self.log_probabilities(batch)
        return self._mean((reference.exp() * (reference - now)).sum(-1), batch)

    def _mean(self, values: torch.Tensor, batch: int) -> torch.Tensor:
        """Mean over the tokens of each answer, then over answers, of `[rows, answer]`."""
        wanted = self._segments[batch].wanted
        return ((values * wanted).sum(-1) / wanted.sum(-1)).mean()

    def mean_loss(self, steps: Steps | None = None) -> float:
        """The loss over all prompts under the hooks in force; `steps` is told of every batch."""
        total = 0.0
        for i in range(len(self)):
            with torch.no_grad():
                total += float(self.loss(i))
            if steps is not None:
                steps.advance()
        return total / len(self)

    def _prepare(self, prompts: Sequence[str], texts: Sequence[str]) -> _Segment:
        model, tail = self.model, self.tail
        whole = model.encode(prompts, chat=self._chat)
        head = whole.input_ids.shape[1] - tail
        cache = whole_cache()
        with torch.no_grad():
            model.forward(
                whole.input_ids[:, :head],
                attention_mask=whole.attention_mask[:, :head],
                position_ids=whole.position_ids[:, :head],
                cache=cache,
                logits_to_keep=1,
            )
        # A refusal ends where it ends: without the end token, steering learns to go on and drifts.
        eos = model.tokenizer.eos_token_id
        end = [eos] if self._whole and eos is not None else []
        answers = [
            [*model.tokenizer(text, add_special_tokens=False)["input_ids"], *end] for text in texts
        ]
        after = Batch.from_ids(
            answers, pad_id=model.pad_id, padding_side="right", device=model.device
        )
        ids = torch.cat([whole.input_ids[:, head:], after.input_ids], dim=1)
        real = torch.cat([whole.attention_mask[:, head:], after.attention_mask], dim=1)
        positions = whole.position_ids[:, head : head + 1] + torch.arange(
            ids.shape[1], device=model.device
        )
        offset = torch.arange(ids.shape[1], device=model.device) - (tail - 1)
        return _Segment(
            prefix=[(layer.keys, layer.values) for layer in cache.layers],
            input_ids=ids,
            attention_mask=torch.cat([whole.attention_mask[:, :head], real], dim=1),
            position_ids=positions,
            running=Forward(real.bool(), offset.expand_as(ids)),
            wanted=after.attention_mask.float(),
        )
