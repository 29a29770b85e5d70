"""Who may join: limits on rows, tokens and waiting requests, and what the measured pace allows."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.serving.ticket import Ticket

_LOOK_AHEAD = 64
"""So many of those that wait are looked at for prompts of similar length."""
_SHORT = 64
"""Prompts up to this length are read together whatever their lengths."""


class Limits(BaseModel):
    """What one engine takes on.

    Attributes:
        max_rows: Rows that run together.
        max_tokens: Tokens of the cache: rows times the longest of them, each with all of the answer
            it may come to.
        max_waiting: Requests that wait.
        prefill_tokens: Prompt tokens, padding included, that are read between two steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_rows: int = Field(default=32, ge=1)
    max_tokens: int = Field(default=65_536, ge=1)
    max_waiting: int = Field(default=256, ge=1)
    prefill_tokens: int = Field(default=2048, ge=1)


class _Average:
    """A running average that forgets: recent values weigh more."""

    def __init__(self, weight: float = 0.1) -> None:
        self._weight = weight
        self.value: float | None = None

    def add(self, value: float) -> None:
        old = self.value
        self.value = value if old is None else old + self._weight * (value - old)


@dataclass(frozen=True)
class Load:
    """What is ahead of a request that is about to be accepted.

    Attributes:
        waiting: Requests that wait.
        waiting_tokens: Prompt tokens of them.
        running: Rows that run.
    """

    waiting: int
    waiting_tokens: int
    running: int


class Pace:
    """How fast the engine has been of late, and what that means for a request.

    Until something has been measured, everything is expected to be in time.
    """

    def __init__(self) -> None:
        self._prefill = _Average()
        self._step = _Average()
        self._answer = _Average(0.05)

    def read(self, tokens: int, seconds: float) -> None:
        """So many prompt tokens were read in this time."""
        if tokens:
            self._prefill.add(seconds / tokens)

    def stepped(self, seconds: float) -> None:
        """One step was made."""
        self._step.add(seconds)

    def answered(self, tokens: int) -> None:
        """A request ended after so many tokens."""
        self._answer.add(tokens)

    def seconds_to_first(self, prompt_tokens: int, load: Load, rows: int) -> float:
        """When a request's first token is to be expected."""
        reading = (load.waiting_tokens + prompt_tokens) * (self._prefill.value or 0.0)
        # Each request ahead that finds no free row waits until one of those that run has ended.
        ahead = load.waiting + 1 - (rows - load.running)
        return reading + max(0, ahead) * self._seconds_to_free(rows)

    def seconds_to_end(
        self, prompt_tokens: int, max_new_tokens: int, load: Load, rows: int
    ) -> float:
        """When a request's answer is to be expected, if it is as long as answers have been."""
        length = min(max_new_tokens, self._answer.value or 0.0)
        return self.seconds_to_first(prompt_tokens, load, rows) + length * (self._step.value or 0.0)

    def seconds_to_shrink(self, requests: int, rows: int) -> float:
        """When so many of the requests that are in hand will have ended."""
        return max(0.1, requests * self._seconds_to_free(rows))

    def _seconds_to_free(self, rows: int) -> float:
        return (self._answer.value or 0.0) * (self._step.value or 0.0) / rows


class WaitingRoom:
    """Requests that wait, first come first served. Any thread may put one in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: deque[Ticket] = deque()

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def tokens(self) -> int:
        """Prompt tokens of those that wait."""
        with self._lock:
            return sum(len(ticket.request.prompt) for ticket in self._tickets)

    def put(self, ticket: Ticket, *, first: bool = False) -> None:
        """Add one, at the end or before all others."""
        with self._lock:
            (self._tickets.appendleft if first else self._tickets.append)(ticket)

    def remove(self, leaves: Callable[[Ticket], bool]) -> list[Ticket]:
        """Take out those of which this holds."""
        with self._lock:
            leaving = [ticket for ticket in self._tickets if leaves(ticket)]
            if leaving:
                self._tickets = deque(t for t in self._tickets if t not in leaving)
            return leaving

    def take(self, fits: Callable[[list[Ticket]], bool], prefill_tokens: int) -> list[Ticket]:
        """Take out the first one and those behind it whose prompts can be read with it.

        They are of similar length, so that little is padding.

        Args:
            fits: Whether these could run together with those that do. Nobody passes a first one
                that has to wait for room.
            prefill_tokens: How many tokens they may have in all, padding included.
        """
        with self._lock:
            taken: list[Ticket] = []
            for ticket in list(self._tickets)[:_LOOK_AHEAD]:
                lengths = [len(t.request.prompt) for t in (*taken, ticket)]
                rows = sum(t.request.rows for t in (*taken, ticket))
                small = max(lengths) * rows <= prefill_tokens
                alike = max(lengths) <= max(2 * min(lengths), _SHORT)
                if not taken or (small and alike):
                    if fits([*taken, ticket]):
                        taken.append(ticket)
                    elif not taken:
                        break
            for ticket in taken:
                self._tickets.remove(ticket)
            return taken
