"""What is to be explained: risky prompts beside harmless twins, and the behaviour they differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

from interpretops.circuits.behaviour import REFUSAL, Behaviour
from interpretops.errors import InterpretOpsError
from interpretops.models import Batch, Forward, Prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel
    from interpretops.prompts import PromptSet


class ContrastPair(BaseModel):
    """A risky prompt and a harmless one of the same form.

    Attributes:
        risky: The prompt that shows the behaviour.
        harmless: Its twin, which does not.
        topic: What it is about.
        correct: How the risky prompt rightly goes on, for behaviours read off answers.
        wrong: How it wrongly does (as its twin may rightly).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    risky: str = Field(min_length=1)
    harmless: str = Field(min_length=1)
    topic: str | None = None
    correct: str | None = Field(default=None, min_length=1)
    wrong: str | None = Field(default=None, min_length=1)


def contrast_of(prompts: PromptSet) -> tuple[tuple[ContrastPair, ...], tuple[str, ...]]:
    """Prompts that have a harmless twin, each beside it, and the texts of those that have none."""
    pairs = tuple(
        ContrastPair(
            risky=prompt.text,
            harmless=prompt.twin,
            topic=prompt.topic,
            correct=prompt.correct,
            wrong=prompt.wrong,
        )
        for prompt in prompts
        if prompt.twin is not None
    )
    return pairs, tuple(prompt.text for prompt in prompts if prompt.twin is None)


def pairs_of(prompts: PromptSet) -> tuple[ContrastPair, ...]:
    """Prompts that have a harmless twin, each beside it.

    Raises:
        InterpretOpsError: When none has.
    """
    pairs, _ = contrast_of(prompts)
    if not pairs:
        raise InterpretOpsError(
            f"no prompt of {prompts.source} has a harmless twin to compare with",
            fix='give each a "twin": the same request made harmless',
        )
    return pairs


class ContrastTask(BaseModel):
    """A behaviour as a contrast.

    Attributes:
        risk_class: The name of the risk.
        pairs: Prompts.
        prompts: Risky prompts without a twin, which a search compares with harmless ones of the
            project's own; see `borrowing`.
        behaviour: What is read off the next token; refusing against complying by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    risk_class: str = Field(min_length=1)
    pairs: tuple[ContrastPair, ...]
    prompts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    behaviour: Behaviour = REFUSAL

    def token_ids(self, model: HookedModel, prompt: str) -> list[int]:
        """Token ids of one prompt, as the behaviour wants it read."""
        return model.token_ids(prompt, chat=self.behaviour.chat)


class PairRuns:
    """Forwards over a batch of pairs of equal length.

    What comes before the first token in which a batch's twins differ is the same in all of its runs: its
    keys and values are computed once, and every forward covers the rest alone.

    Args:
        model: The model.
        task: The behaviour.
        pairs: Pairs whose prompts have equal numbers of tokens.

    Attributes:
        metric: The behaviour, of next-token logits.
        clean: The rest of the risky prompts.
        corrupt: The rest of their twins.
    """

    def __init__(
        self, model: HookedModel, task: ContrastTask, pairs: Sequence[ContrastPair]
    ) -> None:
        self.model = model
        self.metric = task.behaviour.metric(model, pairs)
        stem = model.tokenizer(task.behaviour.stem, add_special_tokens=False)["input_ids"]
        risky, harmless = (
            Batch.from_ids(
                [[*task.token_ids(model, text), *stem] for text in texts],
                pad_id=model.pad_id,
                device=model.device,
            )
            for texts in ([pair.risky for pair in pairs], [pair.harmless for pair in pairs])
        )
        differing = (risky.input_ids != harmless.input_ids).any(0)
        first = int(differing.int().argmax())
        self._same, self.clean = risky.split(first)
        _, self.corrupt = harmless.split(first)
        self._prefix = Prefix.of(model, self._same)

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def real(self) -> torch.Tensor:
        """`[pairs, seq]` bool, positions that hold a token."""
        return self.clean.attention_mask.bool()

    def forward(self, batch: Batch) -> torch.Tensor:
        """The metric per pair, `[pairs]`, under the hooks in force; gradients flow."""
        logits = self.model.forward(
            batch.input_ids,
            attention_mask=torch.cat([self._same.attention_mask, batch.attention_mask], dim=1),
            position_ids=batch.position_ids,
            cache=self._prefix.cache(len(batch)),
            logits_to_keep=1,
            running=Forward.over(batch),
        )
        return self.metric(logits[:, -1])


def aligned(model: HookedModel, task: ContrastTask) -> tuple[list[ContrastPair], int]:
    """Pairs whose twins have equally many tokens, and how many were left out."""

    def length(prompt: str) -> int:
        return len(task.token_ids(model, prompt))

    kept = [pair for pair in task.pairs if length(pair.risky) == length(pair.harmless)]
    return kept, len(task.pairs) - len(kept)
