"""The contestant's half of the protocol: one JSON object a line on stdin, one on stdout.

`python -m benchmarks.serving MODULE` serves the `CONTESTANT` of a module. It runs in every peer's
environment, so it uses the standard library only. Commands:

    {"do": "load", "options": {...}}           -> {"versions": {...}}
    {"do": "gate", "options": {...}}           -> what the parity gate compares
    {"do": "repeat", "options": {...}}         -> {"seconds": 1.23, ...} for the timed part alone

An answer of {"unable": reason} means that this contestant has no way to do what was asked: it
raised `NotImplementedError`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Contestant(Protocol):
    """What a contestant script implements."""

    packages: tuple[str, ...]
    """Distributions whose versions are reported."""

    def load(self, options: dict[str, Any]) -> None:
        """Load model and data; not timed."""

    def gate(self, options: dict[str, Any]) -> dict[str, Any]:
        """Compute what shows that this contestant does the same thing as the others."""

    def repeat(self, options: dict[str, Any]) -> dict[str, Any]:
        """One timed repetition."""


class Stopwatch:
    """Seconds spent inside `with` blocks, until the device has finished what they asked for."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wait_for(self.device)
        began = time.perf_counter()
        yield
        wait_for(self.device)
        self.seconds += time.perf_counter() - began


def wait_for(device: str) -> None:
    """Return when a GPU has done its work; the CPU has always done it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def serve(module: str) -> None:
    """Answer commands until stdin closes."""
    # Libraries print, some while they are imported; only the protocol may reach the driver.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    contestant: Contestant | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if contestant is None:
                contestant = importlib.import_module(module).CONTESTANT()
            answer = _answer(contestant, command["do"], command.get("options", {}))
        except NotImplementedError as reason:
            answer = {"unable": str(reason)}
        except Exception as error:  # the driver decides; the traceback goes to stderr for people
            traceback.print_exc()
            text = str(error).strip().splitlines()
            answer = {"error": f"{type(error).__name__}: {text[0] if text else ''}"}
        answers.write(json.dumps(answer) + "\n")


def _answer(contestant: Contestant, do: str, options: dict[str, Any]) -> dict[str, Any]:
    if do == "load":
        contestant.load(options)
        return {"versions": {name: _version(name) for name in ("torch", *contestant.packages)}}
    if do == "gate":
        return contestant.gate(options)
    if do == "repeat":
        return contestant.repeat(options)
    raise ValueError(f"unknown command {do!r}")


def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


if __name__ == "__main__":
    serve(sys.argv[1])
