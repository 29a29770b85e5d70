"""What the terminal shows: progress with time left, one-line errors, and a safe Ctrl-C."""

from __future__ import annotations

import math
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from interpretops.errors import Cancelled, InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

out = Console(highlight=False)
"""Results, on standard output."""

err = Console(stderr=True, highlight=False)
"""Progress and problems, on standard error, so that results can be piped."""

_PLAIN_INTERVAL_S = 2.0
"""How often a stage is reported where there is no terminal to redraw."""


class TerminalMonitor:
    """Shows each stage as a bar with its live figures; stops the work at a step after Ctrl-C."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._last: dict[str, tuple[int, int]] = {}
        self._stopping = False

    def stop(self) -> None:
        """Ask the work to stop at its next step boundary."""
        self._stopping = True

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        """Show a step; see `interpretops.progress.Monitor`."""
        shown = "  ".join(f"{name.replace('_', ' ')} {_short(v)}" for name, v in figures.items())
        if self._progress is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._progress.add_task(escape(stage), total=total, figures="")
            self._progress.update(
                self._tasks[stage], completed=done, total=total, figures=escape(shown)
            )
        else:
            now = time.monotonic()
            left = self._left(stage, done, total, now)
            if done >= total or now - self._said.get(stage, -math.inf) >= _PLAIN_INTERVAL_S:
                self._said[stage] = now
                err.print(f"  {stage} {done:,} of {total:,}{left}  {shown}".rstrip(), markup=False)
        if self._stopping:
            raise Cancelled(stage)

    def _left(self, stage: str, done: int, total: int, now: float) -> str:
        """The time a stage still needs, at its pace since it was first heard of."""
        last_done, last_total = self._last.get(stage, (math.inf, total))
        if done < last_done or total != last_total:
            self._begun[stage] = (now, done)  # its first report, or it began anew
        self._last[stage] = (done, total)
        begun, before = self._begun[stage]
        if done == before or done >= total:
            return ""
        minutes, seconds = divmod(round((now - begun) / (done - before) * (total - done)), 60)
        return f", {minutes}:{seconds:02d} left"


@contextmanager
def watching() -> Iterator[TerminalMonitor]:
    """A monitor in force for the block: one Ctrl-C stops at the next step, a second one at once."""
    if err.is_terminal:
        progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(separator=" of "),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[figures]}"),
            console=err,
        )
        with progress, _interruptible(TerminalMonitor(progress)) as monitor:
            yield monitor
    else:
        with _interruptible(TerminalMonitor(None)) as monitor:
            yield monitor


@contextmanager
def _interruptible(monitor: TerminalMonitor) -> Iterator[TerminalMonitor]:
    def ask(signum: int, _: FrameType | None) -> None:
        if signum == signal.SIGINT and monitor._stopping:
            raise KeyboardInterrupt
        monitor.stop()
        err.print("[yellow]stopping at the next step (Ctrl-C again to stop at once)[/]")

    before = {sig: signal.signal(sig, ask) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield monitor
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can fix into one line on standard error, and the right exit status.

    Statuses: 2 for a problem the message tells how to fix, 130 for work stopped by the user.
    """
    try:
        yield
    except Cancelled as stopped:
        err.print(f"[yellow]{escape(stopped.problem)}.[/] {escape(stopped.fix)}.", soft_wrap=True)
        sys.exit(130)
    except InterpretOpsError as error:
        err.print(
            f"[bold red]error:[/] {escape(error.problem)}. [bold]Fix:[/] {escape(error.fix)}.",
            soft_wrap=True,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("[yellow]stopped at once.[/] Run the same command again to resume.")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
