"""The engine that serves: one model, one thread that makes steps, and requests from any thread."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from interpretops.serving.admission import Limits, Load, Pace, WaitingRoom
from interpretops.serving.batcher import Batcher
from interpretops.serving.request import (
    BrokenAnswerError,
    Failed,
    Finished,
    OverloadedError,
    StoppingError,
    TooLargeError,
    TooLateError,
)
from interpretops.serving.ticket import Ticket
from interpretops.steering.actions import bind_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from interpretops.models import HookedModel
    from interpretops.sae import Dictionary
    from interpretops.serving.batcher import StepReport
    from interpretops.serving.request import Event, Request
    from interpretops.serving.text import Vocabulary
    from interpretops.steering import Policy
    from interpretops.steering.actions import Bound

logger = logging.getLogger(__name__)


class ServingEngine:
    """Answers requests under policies, many at once. A context manager; any thread may call it.

    Nobody else may run the model meanwhile.

    Args:
        model: The model that answers.
        limits: What it takes on.
        observe: Called after every step, in the engine's thread.

    Raises:
        InterpretOpsError: When rows of this model cannot join a batch that runs.
    """

    def __init__(
        self,
        model: HookedModel,
        limits: Limits | None = None,
        *,
        observe: Callable[[StepReport], None] | None = None,
    ) -> None:
        self.model = model
        self.limits = limits or Limits()
        self.waiting = WaitingRoom()
        self.pace = Pace()
        self._batcher = Batcher(model, self.waiting, self.limits)
        self._observe = observe
        self._wake = threading.Condition()
        self._closing = self._draining = False
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)
        self._thread.start()

    @property
    def vocabulary(self) -> Vocabulary:
        """Text and bytes of single tokens."""
        return self._batcher.vocabulary

    @property
    def running(self) -> int:
        """Rows in the batch."""
        return self._batcher.running

    def bind(self, policy: Policy, dictionary: Dictionary | None = None) -> Bound:
        """Bind a policy to the model, once for all requests that will run under it.

        Raises:
            InterpretOpsError: When it does not fit the model or the dictionary.
        """
        return bind_own(policy, self.model, dictionary)

    def submit(self, request: Request, deliver: Callable[[Event], None]) -> Ticket:
        """Accept a request.

        Args:
            request: What is asked.
            deliver: Called with each event in the engine's thread, so it must be quick and not fail.

        Raises:
            TooLargeError: When it can never be answered.
            OverloadedError: When too many wait, or its deadline cannot be met.
            TooLateError: When its deadline has passed.
            StoppingError: When the engine is closed.
        """
        limit = self._require_fitting(request)
        ticket = Ticket(request, deliver, limit)
        with self._wake:
            if self._closing or self._draining:
                raise _stopping()
            self._admit(ticket)
            self.waiting.put(ticket)
            self._wake.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this answer any more; its row is free with the next step."""
        ticket.cancelled = True

    def stream(self, request: Request) -> Iterator[Event]:
        """The events of one request, as they come.

        Raises:
            InterpretOpsError: As `submit` does, and where the answer fails.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        ticket = self.submit(request, events.put)
        try:
            while True:
                event = events.get()
                if isinstance(event, Failed):
                    raise event.error
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self.cancel(ticket)

    def close(self, *, drain: bool = False) -> None:
        """Take no more requests and end the thread.

        Args:
            drain: Answer those in hand first; else they fail.
        """
        with self._wake:
            self._draining, self._closing = True, self._closing or not drain
            self._wake.notify()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- who is accepted ------------------------------------------------------------------------

    def _require_fitting(self, request: Request) -> int:
        """The longest answer that the model's context leaves room for."""
        length, room = len(request.prompt), self.model.max_positions - len(request.prompt)
        if length == 0:
            raise TooLargeError("the prompt holds no tokens", fix="give at least one character")
        if room < min(1, request.max_new_tokens):
            raise TooLargeError(
                f"a prompt of {length} tokens leaves no room for an answer in the model's context "
                f"of {self.model.max_positions}",
                fix="shorten the prompt",
            )
        limit = min(request.max_new_tokens, max(0, room))
        if (length + limit) * request.rows > self.limits.max_tokens:
            raise TooLargeError(
                f"the prompt of {length} tokens and an answer of up to {limit} need more than the "
                f"{self.limits.max_tokens} tokens that this server keeps",
                fix="ask for a shorter answer (max_new_tokens)",
            )
        return limit

    def _admit(self, ticket: Ticket) -> None:
        request, rows, waiting = ticket.request, self.limits.max_rows, len(self.waiting)
        if waiting >= self.limits.max_waiting:
            raise OverloadedError(
                f"{waiting} requests are waiting already",
                retry_after=self.pace.seconds_to_shrink(max(1, waiting // 4), rows),
            )
        if request.deadline is None:
            return
        left = request.deadline - time.monotonic()
        if left <= 0:
            raise TooLateError("the deadline has passed", fix="allow more time")
        load = Load(waiting, self.waiting.tokens, self.running)
        expected = self.pace.seconds_to_end(len(request.prompt), ticket.limit, load, rows)
        if expected > left:
            raise OverloadedError(
                f"an answer is to be expected in {expected:.1f} seconds and the deadline is in "
                f"{left:.1f}",
                retry_after=max(0.1, expected - left),
            )

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._closing or self._draining or not self._batcher.idle
                )
                if self._closing or (self._draining and self._batcher.idle):
                    break
            try:
                report = self._batcher.step()
            except Exception:  # a defect: those in hand cannot be trusted, those to come can
                logger.exception("a step failed by a defect")
                self._batcher.abandon(
                    BrokenAnswerError("the server failed", fix="report it, with the server's log")
                )
                continue
            self._learn(report)
        self._batcher.abandon(_stopping())

    def _learn(self, report: StepReport) -> None:
        self.pace.read(report.prompt_tokens, report.prompt_seconds)
        if report.rows:
            self.pace.stepped(report.row_seconds)
        for ticket in report.ended:
            self.pace.answered(len(ticket.answer.tokens) if ticket.answer is not None else 0)
        if self._observe is not None:
            self._observe(report)


def _stopping() -> StoppingError:
    return StoppingError("the server is stopping", fix="try again elsewhere")
