"""Runs the contestants of a row as long-lived processes and interleaves their repetitions.

Only one contestant computes at a time; the others wait on their stdin. Every round runs each
contestant once, in an order drawn anew, so that what slows the machine slows all of them alike.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from benchmarks.environments import OURS, interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from benchmarks.rows import Case, Contestant, Row

ROOT = Path(__file__).resolve().parent.parent
WARM_UPS = 3
THREADS = 2


class ContestantError(Exception):
    """A contestant cannot go on; the message is the reason that the table gives."""


class Process:
    """A contestant's process and its end of the protocol."""

    def __init__(
        self, contestant: Contestant, *, log: TextIO, device: str, threads: int = THREADS
    ) -> None:
        python = interpreter(contestant.environment)
        if not python.is_file():
            raise ContestantError("its environment could not be made")
        ours = contestant.environment == OURS
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "disabled",
            # The peers must not see our engine, nor its dependencies.
            "PYTHONPATH": os.pathsep.join([str(ROOT), *(sys.path if ours else ())]),
        }
        if device == "cpu":
            # Some peers take a GPU unasked where there is one.
            environment["CUDA_VISIBLE_DEVICES"] = ""
        module = f"{contestant.package}.{contestant.module}"
        self._process = subprocess.Popen(
            [str(python), "-u", "-m", "benchmarks.serving", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        )

    def ask(self, do: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Send a command and wait for its answer; see `answer`."""
        self.send(do, options)
        return self.answer()

    def send(self, do: str, options: Mapping[str, Any]) -> None:
        """Send a command, whose `answer` must be read before the next one."""
        assert self._process.stdin is not None
        # Why a process is gone is said where its answer is missed.
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, "options": dict(options)}) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the last command.

        Raises:
            ContestantError: When the contestant is unable, failed, or died.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ContestantError(f"its process ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        for failure in ("unable", "error"):
            if failure in answer:
                raise ContestantError(answer[failure])
        return answer

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_row(
    row: Row,
    options: Mapping[str, Any],
    *,
    log: TextIO,
    cases: tuple[str, ...] = (),
    rounds: int | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> dict[str, Any]:
    """Load every contestant, hold the gate, and time the cases.

    Args:
        row: What to measure.
        options: Given to every contestant at loading: model folder, data files, ...
        log: Where the contestants' stderr goes.
        cases: Names of the cases to run; all when empty.
        rounds: Timed repetitions, if not as many as the case says.
        say: Called with one line per step.

    Returns:
        The row's entry in the results: versions, what the gate found, seconds per case and
        contestant, and the reason for each contestant that is left out.
    """
    result: dict[str, Any] = {"versions": {}, "gate": {}, "left_out": {}, "cases": {}}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running: dict[str, Process] = {}
        device = str(options.get("device", "cpu"))
        for contestant in row.contestants:
            try:
                process = stack.enter_context(Process(contestant, log=log, device=device))
                process.send("load", options | contestant.options)
                running[contestant.name] = process
            except ContestantError as error:
                _leave_out(row, contestant.name, error, result, say)
        # They load side by side, for importing a library can take much of a minute.
        for name, process in list(running.items()):
            say(f"{row.name}: loading {name}")
            try:
                result["versions"][name] = process.answer()["versions"]
            except ContestantError as error:
                _leave_out(row, name, error, result, say)
                del running[name]
        if not row.gate_last:
            _hold_gate(row, running, result, scratch, say)
        for case in row.cases:
            if not cases or case.name in cases:
                result["cases"][case.name] = _time(row, case, running, rounds or case.rounds, say)
        if row.gate_last:
            _hold_gate(row, running, result, scratch, say)
    return result


def _leave_out(
    row: Row,
    name: str,
    reason: ContestantError,
    result: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    result["left_out"][name] = f"not run: {reason}"
    say(f"{row.name}: {name} not run: {reason}")


def _hold_gate(
    row: Row,
    running: dict[str, Process],
    result: dict[str, Any],
    scratch: Path,
    say: Callable[[str], None],
) -> None:
    """Ask every contestant for its evidence; those that differ run no further."""
    evidence: dict[str, dict[str, Any]] = {}
    for name in list(running):
        say(f"{row.name}: parity of {name}")
        try:
            evidence[name] = running[name].ask("gate", {"file": str(scratch / f"{name}.npz")})
        except ContestantError as error:
            _leave_out(row, name, error, result, say)
            del running[name]
    for name, finding in row.gate(evidence).items():
        result["gate"][name] = finding.figure
        if finding.refusal is not None:
            result["left_out"][name] = f"not compared: {finding.refusal}"
            say(f"{row.name}: {name} not compared: {finding.refusal}")
            running.pop(name, None)


def _time(
    row: Row,
    case: Case,
    running: Mapping[str, Process],
    count: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    order = random.Random(f"{row.name} {case.name}")
    names = [name for name in running if case.only is None or name in case.only]
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    unable: dict[str, str] = {}
    for number in range(WARM_UPS + count):
        order.shuffle(names)
        for name in list(names):
            try:
                answer = running[name].ask("repeat", case.options)
            except ContestantError as error:
                unable[name] = str(error)
                names.remove(name)
                del answers[name]
                say(f"{row.name} {case.name}: {name}: {error}")
                continue
            if number >= WARM_UPS:
                answers[name].append(answer)
        say(f"{row.name} {case.name}: round {number + 1} of {WARM_UPS + count}")
    return {
        "options": dict(case.options),
        "seconds": {name: [r["seconds"] for r in found] for name, found in answers.items()},
        "details": {
            name: {key: value for key, value in found[-1].items() if key != "seconds"}
            for name, found in answers.items()
        },
        "unable": unable,
    }
