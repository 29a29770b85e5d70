"""How long work reports where it is and learns that it should stop."""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """Receives progress and may stop the work.

    Every engine function takes one. It is called at step boundaries only, where what has been done
    so far is safe on disk or cheap to repeat, so raising `Cancelled` from it loses nothing.
    """

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        """Report that `done` of `total` steps of `stage` are finished.

        Args:
            stage: What is being done, in words a user reads ("tracing", "training dictionaries").
            done: Steps finished so far.
            total: Steps this stage has.
            **figures: Live measurements of the stage, such as `loss` or `tokens_per_s`.

        Raises:
            Cancelled: When the work is to stop here.
        """
        ...


class _Silent:
    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        """Ignore the report."""


SILENT: Monitor = _Silent()
"""The monitor of callers who do not watch."""


class Steps:
    """The steps of one stage, counted wherever they are taken; the stage is announced at once.

    Args:
        monitor: Told of every step.
        stage: What is being done, in words a user reads.
        total: Steps the stage has.
    """

    def __init__(self, monitor: Monitor, stage: str, total: int) -> None:
        self._monitor, self._stage, self._total = monitor, stage, total
        self._done = 0
        monitor.update(stage, 0, total)

    def advance(self, steps: int = 1) -> None:
        """Report that further steps are finished.

        Raises:
            Cancelled: When the work is to stop here.
        """
        self._done += steps
        self._monitor.update(self._stage, self._done, self._total)
