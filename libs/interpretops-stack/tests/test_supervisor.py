"""The supervisor with small real programs: order, crashes, and that nothing is ever left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from interpretops_stack import control, processes
from interpretops_stack.folder import StackFolder
from interpretops_stack.ports import free_ports
from interpretops_stack.state import Phase, ProcessRecord, ProgramState

SMALL_STACK = Path(__file__).with_name("small_stack.py")


class Running:
    """A small stack and its supervisor."""

    def __init__(self, folder: Path) -> None:
        self.folder = StackFolder(folder)
        self.ports = free_ports(("base", "top"), {})
        self.supervisor = subprocess.Popen(
            [sys.executable, str(SMALL_STACK), str(folder), *map(str, self.ports.values())],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.seen: dict[int, psutil.Process] = {}

    @property
    def state(self):
        return self.folder.read_state()

    def program(self, name):
        return next(p for p in self.state.programs if p.name == name)

    def everybody(self) -> list[psutil.Process]:
        """Every process of the stack but the supervisor, grandchildren too."""
        for each in psutil.Process(self.supervisor.pid).children(recursive=True):
            self.seen[each.pid] = each
        return list(self.seen.values())

    def wait_for(self, condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.state
            time.sleep(0.02)


def alive(found: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def running(tmp_path):
    stack = Running(tmp_path)
    try:
        stack.wait_for(lambda: stack.state is not None and stack.state.phase is Phase.UP)
        yield stack
    finally:
        control.stop(stack.folder)
        stack.supervisor.wait()


def test_stages_start_in_order_and_a_task_runs_before_what_needs_it(running):
    started = {p.name: p.since for p in running.state.programs}
    assert started["base"] < started["task"] < started["parent"] < started["top"]
    assert started["early"] < started["task"]
    assert (running.folder.path / "task").read_text() == "done"
    assert running.program("task").state is ProgramState.DONE
    assert running.state.all_ready


def test_a_program_that_is_killed_is_started_again_and_its_children_are_ended(running):
    running.wait_for(lambda: len(running.everybody()) == 5)
    before = running.everybody()
    killed = running.program("parent").process
    child = psutil.Process(killed.pid).children()[0]
    os.kill(killed.pid, signal.SIGKILL)
    running.wait_for(lambda: running.program("parent").restarts == 1)
    running.wait_for(lambda: running.state.all_ready)
    assert running.program("parent").process.pid != killed.pid
    assert running.program("parent").ended == "was ended by SIGKILL"
    assert not alive([child])
    assert len(alive(before)) == 3  # the others were left alone


def test_down_ends_everything_in_reverse_order(running):
    running.wait_for(lambda: len(running.everybody()) == 5)
    everybody = running.everybody()
    said: list[str] = []
    assert control.stop(running.folder, say=said.append)
    assert not alive(everybody)
    assert not running.folder.is_held()
    assert running.state.phase is Phase.DOWN
    for last in ("top", "early"):
        assert said.index(f"stopped {last}") < said.index("stopped base")
    assert not control.stop(running.folder)


def test_down_finds_what_a_killed_supervisor_left(running):
    running.wait_for(lambda: len(running.everybody()) == 5)
    everybody = running.everybody()
    running.supervisor.kill()
    running.supervisor.wait()
    assert len(alive(everybody)) == 5
    assert control.stop(running.folder)
    assert not alive(everybody)


def test_down_finds_a_child_whose_parent_died_with_the_supervisor(running):
    running.wait_for(lambda: len(running.everybody()) == 5)
    everybody = running.everybody()
    running.supervisor.kill()
    running.supervisor.wait()
    os.kill(running.program("parent").process.pid, signal.SIGKILL)
    assert control.stop(running.folder)
    assert not alive(everybody)


def test_two_supervisors_cannot_have_one_folder(running):
    second = subprocess.run(
        [sys.executable, str(SMALL_STACK), str(running.folder.path), "1", "2"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert second.returncode != 0
    assert running.state.all_ready


def test_a_number_that_was_given_away_again_is_never_touched():
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        stale = ProcessRecord(pid=stranger.pid, born="12345", grace_seconds=0)
        assert processes.end([stale], "another run")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_that_cannot_start_stops_the_rest_and_says_where_to_look(tmp_path):
    folder = StackFolder(tmp_path)
    base = free_ports(("base",), {})["base"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        top = taken.getsockname()[1]
        subprocess.run(
            [sys.executable, str(SMALL_STACK), str(tmp_path), str(base), str(top)],
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
    state = folder.read_state()
    assert state.phase is Phase.FAILED
    assert state.problem.startswith("top ended with status 1 while the stack was starting: ")
    assert "Address already in use" in state.problem
    assert state.fix == f"see {folder.log('top')}"
    assert all(p.process is None for p in state.programs)
