"""What is to be explained: risky prompts beside harmless twins, and the behaviour they differ in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field

from interpretops.errors import InterpretOpsError
from interpretops.models import Batch, Forward, Prefix, common_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel


class ContrastPair(BaseModel):
    """A risky prompt and a harmless one of the same form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    risky: str = Field(min_length=1)
    harmless: str = Field(min_length=1)
    topic: str | None = None


class ContrastTask(BaseModel):
    """A behaviour as a contrast.

    The metric is the log-odds of openings that refuse against openings that comply, where both share
    a stem: after "I'm", " sorry" against " happy". It needs no generation. The shared stem matters:
    small chat models seldom begin with a refusal, and the first token alone then says little of what
    the model makes of a prompt.

    Attributes:
        risk_class: The name of the risk.
        pairs: Prompts.
        stem: How the answer begins in either case.
        refuse: What follows the stem in refusals; the first token of each counts.
        comply: What follows it in complying answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    risk_class: str = Field(min_length=1)
    pairs: tuple[ContrastPair, ...]
    stem: str = "I'm"
    refuse: tuple[str, ...] = (" sorry", " unable", " afraid", " not")
    comply: tuple[str, ...] = (" happy", " glad", " here", " excited", " ready")

    @property
    def behaviour(self) -> str:
        """The metric in words."""
        refuse, comply = (", ".join(word.strip() for word in w) for w in (self.refuse, self.comply))
        stem = f"after an answer has begun with “{self.stem}”, the" if self.stem else "the"
        return f"{stem} log-odds of going on with {refuse} against {comply}"


@dataclass(frozen=True)
class OpeningLogOdds:
    """Log-odds of refusing against complying next tokens.

    Attributes:
        refuse: `[n]` token ids.
        comply: `[m]` token ids, none of them in `refuse`.
    """

    refuse: torch.Tensor
    comply: torch.Tensor

    @classmethod
    def of(cls, model: HookedModel, task: ContrastTask) -> OpeningLogOdds:
        """The metric for a model's tokenizer.

        Raises:
            InterpretOpsError: When the two kinds of openings begin with the same tokens.
        """

        def first(texts: Sequence[str]) -> set[int]:
            return {model.tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in texts}

        refuse, comply = first(task.refuse), first(task.comply)
        refuse, comply = refuse - comply, comply - refuse
        if not refuse or not comply:
            raise InterpretOpsError(
                "the refusing and complying openings begin with the same tokens",
                fix="give openings whose first words differ",
            )
        return cls(
            torch.tensor(sorted(refuse), device=model.device),
            torch.tensor(sorted(comply), device=model.device),
        )

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """The metric per row, `[batch]`, from logits `[batch, vocab]`."""
        logits = logits.float()
        return logits[:, self.refuse].logsumexp(-1) - logits[:, self.comply].logsumexp(-1)


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
        self.metric = OpeningLogOdds.of(model, task)
        stem = model.tokenizer(task.stem, add_special_tokens=False)["input_ids"]
        risky = [[*model.token_ids(pair.risky), *stem] for pair in pairs]
        harmless = [[*model.token_ids(pair.harmless), *stem] for pair in pairs]
        self._prefix = Prefix.run(model, common_prefix([*risky, *harmless]), [])
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


def aligned(model: HookedModel, pairs: Sequence[ContrastPair]) -> tuple[list[ContrastPair], int]:
    """Pairs whose twins have equally many tokens, and how many were left out."""
    kept = [p for p in pairs if len(model.token_ids(p.risky)) == len(model.token_ids(p.harmless))]
    return kept, len(pairs) - len(kept)
