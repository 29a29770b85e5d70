"""What an evaluation has found: answers and verdicts, paired with the bare model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.evals.answering import Answers
    from interpretops.evals.judging import Verdicts
    from interpretops.evals.risk_card import Verdict
    from interpretops.evals.suites import LoadedSuite
    from interpretops.prompts import Prompt


@dataclass(frozen=True)
class PairedVerdicts:
    """Verdicts on some prompts, before steering and after, in the same order."""

    prompts: list[Prompt]
    before: list[Verdict]
    after: list[Verdict]

    @classmethod
    def joined(cls, parts: Sequence[PairedVerdicts]) -> PairedVerdicts:
        """All parts as one."""
        return cls(
            [prompt for part in parts for prompt in part.prompts],
            [verdict for part in parts for verdict in part.before],
            [verdict for part in parts for verdict in part.after],
        )

    @property
    def clusters(self) -> list[str] | None:
        """Topics, where every prompt has one."""
        topics = [prompt.topic for prompt in self.prompts]
        return None if None in topics else [str(topic) for topic in topics]

    def rows(self, rows: Sequence[int]) -> PairedVerdicts:
        """Some of the prompts."""
        return PairedVerdicts(
            [self.prompts[i] for i in rows],
            [self.before[i] for i in rows],
            [self.after[i] for i in rows],
        )


@dataclass(frozen=True)
class Evidence:
    """Everything that figures are computed from.

    Attributes:
        suites: What was asked.
        answers: What every arm answered.
        verdicts: What the judges say of it.
        seed: Seed of the intervals.
    """

    suites: Sequence[LoadedSuite]
    answers: Answers
    verdicts: Verdicts
    seed: int

    def paired(self, arm: str, loaded: LoadedSuite, prompts: Sequence[Prompt]) -> PairedVerdicts:
        """Verdicts on an arm's answers beside those on the bare model's."""
        name = loaded.suite.name
        return PairedVerdicts(
            list(prompts),
            [self.verdicts["baseline", name, prompt.id] for prompt in prompts],
            [self.verdicts[arm, name, prompt.id] for prompt in prompts],
        )

    def figures(
        self, arm: str, loaded: LoadedSuite, prompts: Sequence[Prompt]
    ) -> list[dict[str, float]]:
        """The likelihoods that an arm gave, prompt by prompt."""
        return [self.answers[arm, loaded.suite.name, prompt.id].figures for prompt in prompts]
