"""Starting, finding and ending the stack of a folder, from outside its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from interpretops.errors import InterpretOpsError

from interpretops_stack import processes
from interpretops_stack.log_lines import parse
from interpretops_stack.ports import holder_of, is_free
from interpretops_stack.state import Phase, ProgramState
from interpretops_stack.supervisor import recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from interpretops_stack.folder import StackFolder
    from interpretops_stack.state import StackState

SUPERVISOR = "supervisor"
"""Name of the supervisor's own log."""

_STOP_SECONDS = 240.0


def start(
    folder: StackFolder,
    *,
    config: Path | None = None,
    port: int = 8080,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> StackState:
    """Start the stack and wait until all of it is ready.

    Args:
        folder: Where it lives.
        config: Settings of the user's own.
        port: Where the edge is to listen.
        workers: How many processes work on jobs.
        say: Told what is waited for, whenever that changes.

    Raises:
        InterpretOpsError: When the port is taken or the stack does not come up.
    """
    if config is not None and not config.is_file():
        raise InterpretOpsError(f"there is no settings file {config}", fix="name one that exists")
    if not is_free(port):
        holder = holder_of(port) or "another program"
        raise InterpretOpsError(
            f"port {port} is taken by {holder}",
            fix=f"end it, or choose another with --port {port + 1}",
        )
    folder.make()
    folder.state.unlink(missing_ok=True)
    command = [sys.executable, "-m", "interpretops_stack", "supervise", str(folder.path)]
    command += ["--port", str(port), "--workers", str(workers)]
    if config is not None:
        command += ["--config", str(config.resolve())]
    log = folder.log(SUPERVISOR)
    with log.open("ab") as file:
        supervisor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    said = ""
    while True:
        state = folder.read_state()
        if state is not None and state.phase is Phase.UP:
            return state
        if supervisor.poll() is not None:
            raise _why(folder, state)
        waiting = _waited_for(state)
        if waiting != said:
            say(waiting)
            said = waiting
        time.sleep(0.1)


def stop(folder: StackFolder, *, say: Callable[[str], None] = lambda _: None) -> bool:
    """End the stack, whether or not its supervisor lives, and leave no process behind.

    Args:
        folder: Where it lives.
        say: Told what is ended.

    Returns:
        Whether anything ran.

    Raises:
        InterpretOpsError: When a process cannot be ended.
    """
    state = folder.read_state()
    if state is None and not folder.is_held():
        return False
    ran = False
    if state is not None and processes.is_alive(state.supervisor):
        ran = True
        _end_in_order(folder, state, say)
        state = folder.read_state() or state
    if state is None:
        raise InterpretOpsError("the stack is only just starting", fix="try again in a moment")
    left = [record for record in recorded(state) if processes.family(record, state.marker)]
    if left:
        ran = True
        say("ending what a supervisor that was killed left running")
        if not processes.end(left, state.marker, say=say):
            pids = ", ".join(str(record.pid) for record in left)
            raise InterpretOpsError(
                f"processes {pids} cannot be ended", fix="end them as the user who started them"
            )
    if not folder.is_held():
        for status in state.programs:
            status.process, status.state = None, ProgramState.STOPPED
        folder.write_state(state.model_copy(update={"phase": Phase.DOWN}))
    return ran


def _end_in_order(folder: StackFolder, state: StackState, say: Callable[[str], None]) -> None:
    """Ask the supervisor to end everything, and wait; it is killed when it hangs."""
    supervisor = state.supervisor
    os.kill(supervisor.pid, signal.SIGTERM)
    running = {p.name for p in state.programs if p.process is not None}
    deadline = time.monotonic() + _STOP_SECONDS
    while processes.is_alive(supervisor) and time.monotonic() < deadline:
        now = folder.read_state()
        if now is not None:
            still = {
                p.name
                for p in now.programs
                if p.process is not None and processes.is_alive(p.process)
            }
            for name in sorted(running - still):
                say(f"stopped {name}")
            running &= still
        time.sleep(0.1)
    if processes.is_alive(supervisor):
        say("killed the supervisor, which hung")
        os.kill(supervisor.pid, signal.SIGKILL)
    for name in sorted(running):
        say(f"stopped {name}")


def _waited_for(state: StackState | None) -> str:
    if state is None:
        return "making settings and secrets"
    names = [p.name for p in state.programs if p.state is ProgramState.STARTING]
    again = [p.name for p in state.programs if p.state is ProgramState.RESTARTING]
    waiting = f"starting {', '.join(names)}" if names else "starting"
    return waiting + (f"; {', '.join(again)} crashed and is started again" if again else "")


def _why(folder: StackFolder, state: StackState | None) -> InterpretOpsError:
    """Why the stack did not come up: what the supervisor says, or the end of its log."""
    log = folder.log(SUPERVISOR)
    if state is not None and state.problem is not None:
        return InterpretOpsError(state.problem, fix=state.fix or f"see {log}")
    if state is not None and state.phase is Phase.DOWN:
        return InterpretOpsError(
            "the stack was stopped while it was starting", fix="run `mechctl up` again"
        )
    lines = log.read_text(errors="replace").splitlines()
    last = parse(SUPERVISOR, lines[-1]).event if lines else "the supervisor said nothing"
    problem, _, fix = last.partition(" Fix: ")
    return InterpretOpsError(f"the stack did not start: {problem}", fix=fix or f"see {log}")
