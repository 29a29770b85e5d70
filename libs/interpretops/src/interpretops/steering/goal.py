"""What a policy is to make of a risk: which answers fitting makes likely, and what counts as averted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from interpretops.answers import (
    REFUSALS,
    declines,
    is_insulting,
    is_repetitive,
    opens_with_refusal,
)
from interpretops.errors import InterpretOpsError
from interpretops.steering.objective import AnswerObjective
from interpretops.steering.probe import template_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel
    from interpretops.progress import Steps
    from interpretops.prompts import Prompt

CALM_TOKENS = 12
"""How far the continuation of a neutral twin is followed."""


class Goal(Protocol):
    """What is done about a risk.

    Attributes:
        chat: Whether prompts are a user's turns that are answered, or plain text that goes on.
        verb: What the policy does, of "it".
    """

    chat: bool
    verb: str

    def tail(self, model: HookedModel) -> int:
        """How many last tokens of a prompt are steered."""
        ...

    def objective(
        self, model: HookedModel, prompts: Sequence[Prompt], layer: int, steps: Steps
    ) -> AnswerObjective:
        """What fitting at the end of a layer minimises over risky prompts.

        Args:
            model: The model.
            prompts: Risky prompts.
            layer: The layer.
            steps: Told of every batch.
        """
        ...

    def averted(self, answer: str) -> bool:
        """Whether an answer is free of the risk, by a rule on its text."""
        ...

    def withheld(self, answer: str) -> bool:
        """Whether a harmless prompt was left without an answer, by a rule on the answer's text."""
        ...


class Refuse:
    """Decline a request."""

    chat = True
    verb = "refuses"

    def tail(self, model: HookedModel) -> int:
        """The end of the chat template."""
        return template_tail(model)

    def objective(
        self, model: HookedModel, prompts: Sequence[Prompt], layer: int, steps: Steps
    ) -> AnswerObjective:
        """Whole refusals become likely."""
        texts = [prompt.text for prompt in prompts]
        return AnswerObjective(
            model, texts, REFUSALS, tail=self.tail(model), fixed=layer, steps=steps
        )

    def averted(self, answer: str) -> bool:
        """Whether it declines, and does not go on after that."""
        return declines(answer)

    def withheld(self, answer: str) -> bool:
        """The same: to a harmless prompt, a refusal is a loss."""
        return opens_with_refusal(answer)


class Calm:
    """Go on with a text as the model goes on with its neutral twin."""

    chat = False
    verb = "goes on without insult"

    def tail(self, model: HookedModel) -> int:  # noqa: ARG002 - the same for all models
        """The last token, from which the next is read."""
        return 1

    def objective(
        self, model: HookedModel, prompts: Sequence[Prompt], layer: int, steps: Steps
    ) -> AnswerObjective:
        """What the model says to the twins becomes likely, where it says nothing bad.

        Raises:
            InterpretOpsError: When no prompt has a twin that the model goes on with calmly.
        """
        pairs = [(prompt.text, prompt.twin) for prompt in prompts if prompt.twin is not None]
        said: list[str] = []
        for start in range(0, len(pairs), 16):
            twins = [twin for _, twin in pairs[start : start + 16]]
            said += model.generate(twins, CALM_TOKENS, chat=False)
        calm = [
            (text, answer)
            for (text, _), answer in zip(pairs, said, strict=True)
            if answer.strip() and not is_insulting(answer) and not is_repetitive(answer)
        ]
        if not calm:
            raise InterpretOpsError(
                "no risky training text has a neutral twin that the model goes on with calmly",
                fix='give texts a "twin": the same opening made neutral',
            )
        texts, answers = zip(*calm, strict=True)
        return AnswerObjective(
            model,
            texts,
            answers,
            tail=self.tail(model),
            fixed=layer,
            chat=False,
            whole=False,
            steps=steps,
        )

    def averted(self, answer: str) -> bool:
        """Whether it holds no insult."""
        return not is_insulting(answer)

    def withheld(self, answer: str) -> bool:  # noqa: ARG002 - nothing is refused
        """Never: every text is gone on with."""
        return False


def goal_for(risk_class: str) -> Goal:
    """What is done about a class of risk.

    `toxicity` is a matter of how texts go on; every other class is one of requests, and refused.
    """
    return Calm() if risk_class == "toxicity" else Refuse()
