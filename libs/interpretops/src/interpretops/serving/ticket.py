"""A request in hand: the rows that answer it, and what has been told about it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from interpretops.models import Chooser
from interpretops.serving.request import Chunk, Failed, Finished, Shadow, Started, Usage
from interpretops.serving.text import TextStream
from interpretops.steering.placement import Steered

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.errors import InterpretOpsError
    from interpretops.serving.request import Event, Request, Token
    from interpretops.serving.text import Vocabulary
    from interpretops.steering.placement import RowRecord


class Row:
    """One row of the batch: an answer that grows by a token per step.

    Attributes:
        ticket: Whose.
        steered: The policy it runs under.
        chooser: Chooses its tokens.
        limit: Longest answer, as the request and the model's context allow.
        tokens: The answer so far.
        text: Its text.
        reason: Why it ended; None while it goes on.
    """

    def __init__(self, ticket: Ticket, steered: Steered | None, vocabulary: Vocabulary) -> None:
        request = ticket.request
        self.ticket = ticket
        self.steered = steered
        self.chooser = Chooser(request.sampling)
        self.limit = ticket.limit
        self.tokens: list[int] = []
        self.text = TextStream(vocabulary, request.stop)
        self.shown = ""
        self.reason: Literal["stop", "length"] | None = None if self.limit else "length"

    @property
    def longest(self) -> int:
        """Tokens that it may come to hold in the cache."""
        return len(self.ticket.request.prompt) + self.limit

    def take(self, token: Token, *, ends: bool) -> None:
        """The next token was chosen; `ends` where it is one that ends an answer."""
        if ends:
            self.reason = "stop"
        else:
            self.tokens.append(token.id)
            piece = self.text.push(token.id, token)
            self._show(piece.text, piece.tokens)
            if self.text.stopped is not None:
                self.reason = "stop"
            elif len(self.tokens) >= self.limit:
                self.reason = "length"
        if self.reason is not None:
            rest = self.text.finish()
            self._show(rest.text, rest.tokens)

    def _show(self, text: str, tokens: tuple[Token, ...]) -> None:
        self.shown += text
        if (text or tokens) and self is self.ticket.answer:
            self.ticket.deliver(Chunk(text, tokens))


class Ticket:
    """A request in hand.

    Args:
        request: What is asked.
        deliver: Called with each event, in the engine's thread.
        limit: Longest answer.
    """

    def __init__(self, request: Request, deliver: Callable[[Event], None], limit: int) -> None:
        self.request = request
        self.limit = limit
        self.submitted = time.monotonic()
        self.cancelled = False
        self.ended = False
        self.answer: Row | None = None
        self.beside: Row | None = None
        self._deliver = deliver
        self._first: float | None = None

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        deadline = self.request.deadline
        return deadline is not None and time.monotonic() >= deadline

    def make_rows(self, vocabulary: Vocabulary) -> list[Row]:
        """New rows for it: the one that answers, and in shadow mode the policy's beside it."""
        request = self.request
        steered = None if request.policy is None else Steered(request.policy)
        if request.shadow:
            self.answer = Row(self, None, vocabulary)
            self.beside = Row(self, steered, vocabulary)
            return [self.answer, self.beside]
        self.answer = Row(self, steered, vocabulary)
        return [self.answer]

    def deliver(self, event: Event) -> None:
        """Tell an event, unless nobody listens any more."""
        if isinstance(event, Chunk) and self._first is None:
            self._first = time.monotonic()
        if not self.cancelled and not self.ended:
            self.ended = isinstance(event, Finished | Failed)
            self._deliver(event)

    def start(self, prompt: tuple[Token, ...]) -> None:
        """The prompt has been read."""
        waited = time.monotonic() - self.submitted
        self.deliver(Started(waited, len(self.request.prompt), prompt, self._record))

    @property
    def _record(self) -> RowRecord | None:
        """What its policy has done so far."""
        row = self.beside or self.answer
        return None if row is None or row.steered is None else row.steered.record

    def fail(self, error: InterpretOpsError) -> None:
        """There will be no answer, or no more of it."""
        self.deliver(Failed(error))

    def finish_if_whole(self) -> None:
        """Tell that the answer is whole, once all its rows have ended."""
        answer, beside = self.answer, self.beside
        assert answer is not None
        if answer.reason is None or (beside is not None and beside.reason is None):
            return
        usage = Usage(
            prompt_tokens=len(self.request.prompt),
            completion_tokens=len(answer.tokens),
            first_token_seconds=None if self._first is None else self._first - self.submitted,
            total_seconds=time.monotonic() - self.submitted,
        )
        record = self._record
        shadow = None if beside is None else _compare(answer, beside)
        self.deliver(Finished(answer.reason, answer.text.stopped, usage, record, shadow))


def _compare(answer: Row, beside: Row) -> Shadow:
    ours, theirs = answer.tokens, beside.tokens
    differing = (k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    shorter = min(len(ours), len(theirs)) if len(ours) != len(theirs) else None
    return Shadow(next(differing, shorter), beside.shown, len(theirs))
