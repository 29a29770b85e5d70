"""What is asked of the engine that serves, and what it answers, event by event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from interpretops.errors import InterpretOpsError
from interpretops.models import GREEDY, Sampling

if TYPE_CHECKING:
    from interpretops.steering import RowRecord
    from interpretops.steering.actions import Bound


@dataclass(frozen=True)
class Request:
    """One prompt to be answered.

    Attributes:
        prompt: Token ids.
        max_new_tokens: Longest answer; 0 only scores the prompt.
        sampling: How tokens are chosen.
        stop: The answer ends before the first of these texts.
        logprobs: Give the log-probability of each token, and of so many most likely ones beside it.
        echo: Give the prompt's tokens too.
        policy: What steers it, bound to the engine's model; None for the bare model.
        shadow: Answer with the bare model and run the policy beside it.
        deadline: On the clock of `time.monotonic`; an answer that comes later is of no use.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo: bool = False
    policy: Bound | None = None
    shadow: bool = False
    deadline: float | None = None

    @property
    def rows(self) -> int:
        """Rows it takes: its own, and in shadow mode the policy's beside it."""
        return 2 if self.shadow else 1


@dataclass(frozen=True)
class Token:
    """One token.

    Attributes:
        id: Its id.
        logprob: Natural logarithm of its probability under the model, before temperature and top-p;
            None if not asked for, and for a prompt's first token.
        top: The most likely tokens at its place and their log-probabilities, likeliest first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Started:
    """The prompt has been read.

    Attributes:
        queue_seconds: From submission until then.
        prompt_tokens: How many.
        prompt: Its tokens, if `echo` was asked for.
        record: What the policy decided of it; None where there was none.
    """

    queue_seconds: float
    prompt_tokens: int
    prompt: tuple[Token, ...] = ()
    record: RowRecord | None = None


@dataclass(frozen=True)
class Chunk:
    """A piece of the answer: whole characters, and the tokens that end in them."""

    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Usage:
    """What a request took.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the answer, without the one that ends it.
        first_token_seconds: From submission to the first token; None if there was none.
        total_seconds: From submission to the end.
    """

    prompt_tokens: int
    completion_tokens: int
    first_token_seconds: float | None
    total_seconds: float


@dataclass(frozen=True)
class Shadow:
    """What a policy in shadow mode would have changed.

    Attributes:
        first_difference: Index of the first answer token that differs; None where none does.
        text: The answer that the policy would have given.
        completion_tokens: Tokens of it.
    """

    first_difference: int | None
    text: str
    completion_tokens: int


@dataclass(frozen=True)
class Finished:
    """The answer is whole.

    Attributes:
        reason: `stop` where the model ended it or a stop text came, else `length`.
        stop: The stop text that came.
        usage: What it took.
        record: What the policy did; None where there was none.
        shadow: What it would have changed, in shadow mode.
    """

    reason: Literal["stop", "length"]
    stop: str | None
    usage: Usage
    record: RowRecord | None = None
    shadow: Shadow | None = None


@dataclass(frozen=True)
class Failed:
    """There is no answer, or no more of it."""

    error: InterpretOpsError


Event = Started | Chunk | Finished | Failed
"""First `Started`, then chunks, last `Finished`; `Failed` ends it at any time."""


class OverloadedError(InterpretOpsError):
    """The request is refused now, and may be accepted later.

    Args:
        problem: What is wrong.
        retry_after: Seconds after which the same request may be accepted.
    """

    def __init__(self, problem: str, *, retry_after: float) -> None:
        super().__init__(problem, fix=f"try again in {retry_after:.1f} seconds")
        self.retry_after = retry_after


class TooLateError(InterpretOpsError):
    """The request's deadline has passed."""


class TooLargeError(InterpretOpsError):
    """The request can never be accepted: it is larger than the limits allow."""


class BrokenAnswerError(InterpretOpsError):
    """The engine failed on this request by a defect, which its log tells more about."""


class NotFiniteError(BrokenAnswerError):
    """The model computed numbers that are none for this request."""


class NoMemoryError(BrokenAnswerError):
    """There is not enough memory for this request, even alone."""


class StoppingError(InterpretOpsError):
    """The engine stops before the answer is whole, or takes no more requests."""
