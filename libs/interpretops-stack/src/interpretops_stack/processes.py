"""Ending processes, and only those that are meant.

Every program leads a session of its own. A process is known by its number and by when the kernel
started it, so a number that was given away again is never taken for ours.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from interpretops_stack.state import ProcessRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MARKER = "INTERPRETOPS_STACK_RUN"
"""Environment variable that holds the marker of a run."""

_KILL_SECONDS = 10.0


def birth(pid: int) -> str | None:
    """When the kernel started a process, in a form that only equality is asked of, or none.

    On Linux it is counted in ticks since boot, which no change of the clock moves.
    """
    try:
        if sys.platform == "linux":
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return fields[19]
        return f"{psutil.Process(pid).create_time():.2f}"
    except (OSError, psutil.Error, IndexError):
        return None


def record_of(pid: int) -> ProcessRecord:
    """The record of a process that was just started here and not yet waited for."""
    return ProcessRecord(pid=pid, born=birth(pid) or "gone")


def is_alive(record: ProcessRecord) -> bool:
    """Whether this very process runs; one that ended and was not waited for does not."""
    if birth(record.pid) != record.born:
        return False
    try:
        return _runs(psutil.Process(record.pid))
    except psutil.Error:
        return False


def family(record: ProcessRecord, marker: str) -> list[psutil.Process]:
    """The process and all that descend from it or live in its session, dead leaders included.

    Args:
        record: The leader of the session.
        marker: Of the run it belongs to; what outlives its leader is known by it.
    """
    found: dict[int, psutil.Process] = {}
    leads = is_alive(record)
    if leads:
        with suppress(psutil.Error):
            leader = psutil.Process(record.pid)
            found = {each.pid: each for each in (leader, *leader.children(recursive=True))}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) != record.pid or process.pid in found:
                continue
            if not _runs(process):
                continue
            # Behind a leader that is gone its number may lead strangers.
            if leads or process.environ().get(MARKER) == marker:
                found[process.pid] = process
    return list(found.values())


def end(
    records: Iterable[ProcessRecord],
    marker: str,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> bool:
    """End processes with all they started: later stages first, asked first, then killed.

    Args:
        records: Leaders of sessions.
        marker: Of the run they belong to.
        say: Told what had to be killed.

    Returns:
        Whether nothing is left.
    """
    by_stage: dict[int, list[ProcessRecord]] = {}
    for record in records:
        by_stage.setdefault(record.stage, []).append(record)
    left: list[psutil.Process] = []
    for stage in sorted(by_stage, reverse=True):
        left += _end_together(by_stage[stage], marker, say)
    return not left


def _end_together(
    records: Sequence[ProcessRecord], marker: str, say: Callable[[str], None]
) -> list[psutil.Process]:
    asked = [process for record in records for process in family(record, marker)]
    for record in records:
        if is_alive(record):
            with suppress(ProcessLookupError):
                os.kill(record.pid, record.stop_signal)
    patience = max((record.grace_seconds for record in records), default=0.0)
    stubborn = _alive_after(patience, asked)
    # What was started while it was being ended counts too.
    stubborn += [p for record in records for p in family(record, marker) if p not in stubborn]
    for process in stubborn:
        with suppress(psutil.Error):
            say(f"killed {process.name()} (pid {process.pid}), which did not end when asked")
            process.send_signal(signal.SIGKILL)
    return _alive_after(_KILL_SECONDS, stubborn)


def _alive_after(seconds: float, processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (alive := [p for p in processes if _runs(p)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def _runs(process: psutil.Process) -> bool:
    """Whether it runs; one that only waits to be asked how it ended does not."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def memory_of(record: ProcessRecord, *, descendants: bool = True) -> int:
    """Bytes of memory that a process takes, by default with all that descend from it.

    Pages that several processes share are counted once where the system tells (on Linux), else in
    each.
    """
    if not is_alive(record):
        return 0
    total = 0
    with suppress(psutil.Error):
        leader = psutil.Process(record.pid)
        below = leader.children(recursive=True) if descendants else []
        for process in (leader, *below):
            with suppress(psutil.Error):
                full = process.memory_full_info()
                total += getattr(full, "pss", 0) or full.rss
    return total
