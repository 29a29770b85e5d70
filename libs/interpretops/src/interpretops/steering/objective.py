"""What fitting minimises: how unlikely given answers are, computed over the prompt's end and the answer.

An intervention that begins at the last tokens of a prompt does not change what comes before them, so
keys and values of everything earlier are computed once and reused by every step. Where it begins at the
end of a layer, so is the residual stream there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from interpretops.models import Address, Batch, Forward, Prefix, whole_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel
    from interpretops.progress import Steps


@dataclass(frozen=True)
class _Segment:
    """A batch split at the prompts' tails: a cached prefix, and what is run at every step.

    Attributes:
        prefix: What comes before the tails.
        input_ids: `[rows, tail + answer - 1]`: an answer's last token is foretold, not read.
        attention_mask: `[rows, prefix + tail + answer - 1]`.
        position_ids: As `input_ids`.
        running: What the positions of `input_ids` are.
        known: By the last layer that never changes, if there is one: the residual stream at its end.
        targets: `[rows, answer]` tokens of the answers.
        wanted: `[rows, answer]`, 1 at tokens and 0 at padding.
    """

    prefix: Prefix
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    running: Forward
    known: dict[int, torch.Tensor]
    targets: torch.Tensor
    wanted: torch.Tensor


class AnswerObjective:
    """Mean negative log-likelihood, per token, of given answers to prompts.

    Args:
        model: The model.
        prompts: What is to be answered.
        answers: The wanted answers, dealt out to the prompts in turn.
        tail: How many last prompt tokens are run (and may be changed) at every step.
        fixed: The layer at whose end changes begin; up to it, tails and answers are run only once.
            None where any layer may change.
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
        fixed: int | None = None,
        chat: bool = True,
        whole: bool = True,
        batch_size: int = 16,
        steps: Steps | None = None,
    ) -> None:
        self.model = model
        self.tail = tail
        self._fixed = fixed
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
        targets = self._segments[batch].targets
        return -self._mean(
            self.log_probabilities(batch).gather(-1, targets[..., None])[..., 0], batch
        )

    def log_probabilities(self, batch: int) -> torch.Tensor:
        """Log-probabilities of every token of the answers, `[rows, answer, vocab]` float32."""
        segment = self._segments[batch]
        with self.model.hooks() as hooks:
            for layer, residual in segment.known.items():
                hooks.resume(layer, residual)
            logits = self.model.forward(
                segment.input_ids,
                attention_mask=segment.attention_mask,
                position_ids=segment.position_ids,
                cache=segment.prefix.cache(len(segment.input_ids)),
                logits_to_keep=segment.targets.shape[1],
                running=segment.running,
            )
        return torch.log_softmax(logits.float(), dim=-1)

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
        model = self.model
        asked = model.encode(prompts, chat=self._chat)
        # A refusal ends where it ends: without the end token, steering learns to go on and drifts.
        eos = model.tokenizer.eos_token_id
        end = [eos] if self._whole and eos is not None else []
        answered = Batch.from_ids(
            [
                [*model.tokenizer(text, add_special_tokens=False)["input_ids"], *end]
                for text in texts
            ],
            pad_id=model.pad_id,
            padding_side="right",
            device=model.device,
        )
        ids = torch.cat([asked.input_ids, answered.input_ids[:, :-1]], dim=1)
        mask = torch.cat([asked.attention_mask, answered.attention_mask[:, :-1]], dim=1)
        further = torch.arange(1, answered.input_ids.shape[1], device=model.device)
        positions = torch.cat([asked.position_ids, asked.position_ids[:, -1:] + further], dim=1)
        head = asked.input_ids.shape[1] - self.tail
        offset = torch.arange(ids.shape[1] - head, device=model.device) - (self.tail - 1)

        cache = whole_cache()
        stream: dict[int, torch.Tensor] = {}
        upto = head if self._fixed is None else ids.shape[1]
        with torch.no_grad(), model.hooks() as hooks:
            if self._fixed is not None:
                hooks.keep(Address("resid_post", self._fixed), stream, self._fixed)
            model.forward(
                ids[:, :upto],
                attention_mask=mask[:, :upto],
                position_ids=positions[:, :upto],
                cache=cache,
                logits_to_keep=1,
            )
        return _Segment(
            prefix=Prefix(
                head,
                tuple((at.keys[:, :, :head], at.values[:, :, :head]) for at in cache.layers),
            ),
            input_ids=ids[:, head:],
            attention_mask=mask,
            position_ids=positions[:, head:],
            running=Forward(mask[:, head:].bool(), offset.expand(len(ids), -1)),
            known={layer: residual[:, head:] for layer, residual in stream.items()},
            targets=answered.input_ids,
            wanted=answered.attention_mask.float(),
        )
