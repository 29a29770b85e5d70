"""Starts programs in order, starts again what crashes, and ends all of them in reverse order."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interpretops_stack import processes
from interpretops_stack.log_files import last_words, rotate
from interpretops_stack.state import Phase, ProgramState, ProgramStatus, StackState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from interpretops_stack.folder import StackFolder
    from interpretops_stack.program import Program
    from interpretops_stack.state import ProcessRecord

logger = logging.getLogger(__name__)

_TICK = 0.1
_CHECK_SECONDS = 5.0
"""How often a program that is ready is asked again."""
_ROTATE_SECONDS = 10.0
_STEADY_SECONDS = 60.0
"""A program that ran this long is given the shortest back-off again."""
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 30.0
_CRASHES_WHILE_STARTING = 3


class StartError(Exception):
    """The stack did not come up.

    Args:
        problem: What is wrong.
        fix: What to do about it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


@dataclass
class _Slot:
    """A program and its process."""

    program: Program
    status: ProgramStatus
    process: subprocess.Popen[bytes] | None = None
    crashes: int = 0
    start_at: float | None = None
    check_at: float = 0.0


class Supervisor:
    """Runs programs until it is asked to stop by SIGTERM, SIGINT or SIGHUP.

    Args:
        programs: What to run.
        folder: Where logs and the state are written.
        marker: Stands in the environment of every process of this run.
        address: Where the edge answers, for the state.
        dashboard: Where the dashboard does.
        start_seconds: How long the programs of one stage may take to be ready.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        folder: StackFolder,
        *,
        marker: str,
        address: str = "",
        dashboard: str = "",
        start_seconds: float = 600,
    ) -> None:
        self._folder = folder
        self._start_seconds = start_seconds
        self._slots = [
            _Slot(p, ProgramStatus(name=p.name, what=p.what, port=p.port)) for p in programs
        ]
        self._state = StackState(
            supervisor=processes.record_of(os.getpid()),
            marker=marker,
            address=address,
            dashboard=dashboard,
            programs=[slot.status for slot in self._slots],
        )
        self._written: StackState | None = None
        self._stopping = False
        self._rotate_at = 0.0

    def run(self) -> bool:
        """Start everything, keep it running, and end it when asked.

        Returns:
            Whether the stack came up, or was asked to stop before it could.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        self._write()
        try:
            self._start_all()
            if not self._stopping:
                self._state.phase = Phase.UP
                logger.info("everything is up at %s", self._state.address)
            while not self._stopping:
                self._tend(self._slots)
                time.sleep(_TICK)
        except StartError as error:
            logger.error("%s. Fix: %s.", error.problem, error.fix)
            self._state.problem, self._state.fix = error.problem, error.fix
        finally:
            self._stop_all()
        return self._state.problem is None

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start_all(self) -> None:
        stages = {s for slot in self._slots for s in (slot.program.starts_at, slot.program.stage)}
        for stage in sorted(stages):
            for slot in self._slots:
                if slot.program.starts_at == stage:
                    self._start(slot)
            self._wait_until_ready([s for s in self._slots if s.program.stage == stage])

    def _wait_until_ready(self, slots: Sequence[_Slot]) -> None:
        deadline = time.monotonic() + self._start_seconds
        while not self._stopping and not all(_is_ready(slot) for slot in slots):
            self._tend(self._slots)
            for slot in slots:
                if slot.crashes >= (1 if slot.program.once else _CRASHES_WHILE_STARTING):
                    raise StartError(
                        f"{slot.program.name} {slot.status.ended} while the stack was starting"
                        f"{last_words(self._folder.log(slot.program.name))}",
                        f"see {self._folder.log(slot.program.name)}",
                    )
            if time.monotonic() > deadline:
                late = next(slot for slot in slots if not _is_ready(slot))
                raise StartError(
                    f"{late.program.name} was not ready within {self._start_seconds:g} s",
                    f"see {self._folder.log(late.program.name)}",
                )
            time.sleep(_TICK)

    def _tend(self, slots: Sequence[_Slot]) -> None:
        """Look at every program once."""
        now = time.monotonic()
        for slot in slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._note_end(slot, slot.process.returncode, now)
            elif slot.process is None and slot.start_at is not None and now >= slot.start_at:
                slot.status.restarts += 1
                self._start(slot)
            elif slot.process is not None and now >= slot.check_at:
                self._check(slot)
        if now >= self._rotate_at:
            self._rotate_at = now + _ROTATE_SECONDS
            for path in self._folder.logs.glob("*.log"):
                rotate(path)
        self._write()

    def _start(self, slot: _Slot) -> None:
        program = slot.program
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **program.environment,
            processes.MARKER: self._state.marker,
        }
        with self._folder.log(program.name).open("ab") as log:
            slot.process = subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=program.folder,
                env=environment,
                user=program.user,
                start_new_session=True,  # Ctrl-C at a terminal is ours alone, and so is its end
            )
        record = processes.record_of(slot.process.pid)
        slot.status.process = record.model_copy(
            update={
                "stop_signal": int(program.stop_signal),
                "grace_seconds": program.grace_seconds,
                "stage": program.stage,
            }
        )
        slot.status.since = time.time()
        slot.status.state = ProgramState.STARTING
        slot.start_at, slot.check_at = None, 0.0
        self._write()

    def _check(self, slot: _Slot) -> None:
        if slot.program.once:
            return
        ready = slot.program.ready is None or slot.program.ready()
        before = slot.status.state
        if ready:
            slot.status.state = ProgramState.READY
        elif before is ProgramState.READY:
            slot.status.state = ProgramState.SILENT
        if before is not slot.status.state:
            log = logger.info if ready else logger.warning
            log("%s is %s", slot.program.name, slot.status.state.value)
        slot.check_at = time.monotonic() + (_CHECK_SECONDS if ready else 2 * _TICK)

    def _note_end(self, slot: _Slot, code: int, now: float) -> None:
        record, name = slot.status.process, slot.program.name
        slot.process, slot.status.process = None, None
        slot.status.ended = _in_words(code)
        if slot.program.once and code == 0:
            slot.status.state = ProgramState.DONE
            return
        if record is not None:  # what it started must not meet its successor
            processes.end([record], self._state.marker, say=logger.warning)
        lived = time.time() - (slot.status.since or 0)
        slot.crashes = 1 if lived > _STEADY_SECONDS else slot.crashes + 1
        pause = min(_FIRST_BACKOFF * 2 ** (slot.crashes - 1), _LONGEST_BACKOFF)
        slot.status.state = ProgramState.RESTARTING
        if not slot.program.once:
            slot.start_at = now + pause
            logger.warning("%s %s; starting it again in %g s", name, slot.status.ended, pause)

    def _stop_all(self) -> None:
        self._state.phase = Phase.STOPPING
        self._write()
        logger.info("stopping")
        records = [s.status.process for s in self._slots if s.status.process is not None]
        processes.end(records, self._state.marker, say=logger.warning)
        for slot in self._slots:
            slot.status.process, slot.status.state = None, ProgramState.STOPPED
        failed = self._state.problem is not None
        self._state.phase = Phase.FAILED if failed else Phase.DOWN
        self._write()
        logger.info("stopped; nothing is left running")

    def _write(self) -> None:
        if self._state != self._written:
            self._folder.write_state(self._state)
            self._written = self._state.model_copy(deep=True)


def _is_ready(slot: _Slot) -> bool:
    return slot.status.state in (ProgramState.READY, ProgramState.DONE)


def _in_words(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def recorded(state: StackState) -> Iterator[ProcessRecord]:
    """Every process that a state names, programs only."""
    for status in state.programs:
        if status.process is not None:
            yield status.process
