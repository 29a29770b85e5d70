"""What runs: written by the supervisor at every change, read by `status` and `down`."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel


class Phase(StrEnum):
    """Where the stack as a whole is."""

    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"
    DOWN = "down"
    FAILED = "failed"


class ProgramState(StrEnum):
    """Where one program is."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    SILENT = "not answering"
    RESTARTING = "restarting"
    DONE = "done"
    STOPPED = "stopped"


class ProcessRecord(BaseModel):
    """One process, named so that no other process can be taken for it.

    Attributes:
        pid: Its number, which is also the number of its session and process group.
        born: When the kernel started it; see `processes.birth`.
        stop_signal: Asks it to end.
        grace_seconds: How long it may take to end by itself.
        stage: Processes of a later stage are ended before those of an earlier one.
    """

    pid: int
    born: str
    stop_signal: int = 15
    grace_seconds: float = 30
    stage: int = 0


class ProgramStatus(BaseModel):
    """One program of the stack.

    Attributes:
        name: How it is called in tables and logs.
        what: What it does, in a few words.
        state: Where it is.
        port: Where it listens, if it does.
        process: Its process, while there is one.
        since: Unix time at which it was last started.
        restarts: How often it was started again since the stack came up.
        ended: How it ended last, in words.
    """

    name: str
    what: str
    state: ProgramState = ProgramState.WAITING
    port: int | None = None
    process: ProcessRecord | None = None
    since: float | None = None
    restarts: int = 0
    ended: str | None = None


class StackState(BaseModel):
    """The stack.

    Attributes:
        supervisor: The process that wrote this.
        marker: Stands in the environment of every process of this run.
        phase: Where the stack is.
        address: Where the edge answers.
        dashboard: Where people look at it.
        programs: In the order in which they start.
        problem: Why the stack failed to come up.
        fix: What to do about it.
    """

    supervisor: ProcessRecord
    marker: str
    phase: Phase = Phase.STARTING
    address: str = ""
    dashboard: str = ""
    programs: list[ProgramStatus] = []
    problem: str | None = None
    fix: str | None = None

    @property
    def all_ready(self) -> bool:
        """Whether every program does what it is for."""
        return self.phase is Phase.UP and all(
            program.state in (ProgramState.READY, ProgramState.DONE) for program in self.programs
        )
