"""What is to be explained: risky prompts beside harmless twins, and the behaviour they differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

from interpretops.circuits.behaviour import REFUSAL, Behaviour
from interpretops.errors import InterpretOpsError
from interpretops.models import Batch, Forward, Prefix, common_prefix

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

    What all prompts begin with (the system turn of a chat template) cannot differ between twins, so
    its keys and values are computed once and every forward covers the rest alone.

    Args:
        model: The model.
        task: The behaviour.
        pairs: Pairs whose prompts have equal numbers of tokens.
    """

    def __init__(
        self, model: HookedModel, task: ContrastTask, pairs: Sequence[ContrastPair]
    ) -> None:
        self.model = model
        self.metric = task.behaviour.metric(model, pairs)
        stem = model.tokenizer(task.behaviour.stem, add_special_tokens=False)["input_ids"]
        risky = [[*task.token_ids(model, pair.risky), *stem] for pair in pairs]
        harmless = [[*task.token_ids(model, pair.harmless), *stem] for pair in pairs]
        self._prefix = Prefix.run(model, common_prefix([*risky, *harmless]))
        shared = self._prefix.length
        width = max(len(row) for row in risky) - shared
        self.clean = self._batch([row[shared:] for row in risky], width)
        self.corrupt = self._batch([row[shared:] for row in harmless], width)

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def real(self) -> torch.Tensor:
        """`[pairs, seq]` bool, positions that hold a token."""
        return self.clean.attention_mask.bool()

    def forward(self, batch: Batch) -> torch.Tensor:
        """The metric per pair, `[pairs]`, under the hooks in force; gradients flow."""
        n = len(batch)
        shared = self._prefix.length
        before = torch.ones(n, shared, dtype=torch.int64, device=batch.input_ids.device)
        logits = self.model.forward(
            batch.input_ids,
            attention_mask=torch.cat([before, batch.attention_mask], dim=1),
            position_ids=batch.position_ids + shared,
            cache=self._prefix.cache(n),
            logits_to_keep=1,
            running=Forward.over(batch),
        )
        return self.metric(logits[:, -1])

    def _batch(self, rows: list[list[int]], width: int) -> Batch:
        return Batch.from_ids(
            rows, pad_id=self.model.pad_id, pad_to=width, device=self.model.device
        )


def aligned(model: HookedModel, task: ContrastTask) -> tuple[list[ContrastPair], int]:
    """Pairs whose twins have equally many tokens, and how many were left out."""

    def length(prompt: str) -> int:
        return len(task.token_ids(model, prompt))

    kept = [pair for pair in task.pairs if length(pair.risky) == length(pair.harmless)]
    return kept, len(task.pairs) - len(kept)
