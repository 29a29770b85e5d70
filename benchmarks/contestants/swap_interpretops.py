"""Ours: replaces the policy in force while eight rows run and a thousand policies are kept ready."""

from __future__ import annotations

import itertools
import queue
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpretops.serving import Failed, Finished, Limits, Request, ServingEngine
from interpretops.steering import load_policy
from safetensors.torch import save_file

from benchmarks.contestants.common import prompts, steering_vector
from benchmarks.contestants.steer_interpretops import addition, endless_hooked_model

if TYPE_CHECKING:
    from interpretops.serving import Ticket
    from interpretops.steering.actions import Bound

RESIDENT = 1000
ROWS = 8
PROMPT, ANSWER = 16, 64


class Swap:
    """Swaps are made one after another for as long as the rows run.

    A swap is everything between a policy's files on this machine and the policy in force for the
    next request: reading the YAML and the vectors, checking them, binding them to the model.
    """

    packages = ("transformers",)

    def load(self, options: dict[str, Any]) -> None:
        self.model = endless_hooked_model(options)
        self.prompts = [tuple(row[:PROMPT]) for row in prompts(options).tolist()[:ROWS]]
        self.engine = ServingEngine(self.model, Limits(max_rows=ROWS))
        self.folder = tempfile.TemporaryDirectory()
        self.folders = [self._write(number) for number in range(RESIDENT)]
        before = _resident_bytes()
        self.ready = [self._bind(folder) for folder in self.folders]
        self.bytes_each = (_resident_bytes() - before) / RESIDENT
        self.next = itertools.cycle(range(RESIDENT))

    def gate(self, _: dict[str, Any]) -> dict[str, Any]:
        return {}

    def repeat(self, options: dict[str, Any]) -> dict[str, Any]:
        asked = [self._ask(prompt, self.ready[next(self.next)]) for prompt in self.prompts]
        taken: list[float] = []
        while len(taken) < options["swaps"]:
            number = next(self.next)
            began = time.perf_counter()
            self.ready[number] = self._bind(self.folders[number])
            taken.append(time.perf_counter() - began)
            if all(ticket.ended for ticket, _ in asked[-ROWS:]):  # others take their places
                asked += [self._ask(prompt, self.ready[number]) for prompt in self.prompts]
        for ticket, events in asked:
            policy, record = ticket.request.policy, _last(events).record
            assert policy is not None
            if record is None or (record.policy, record.steps) != (policy.policy.meta.id, ANSWER):
                raise RuntimeError(f"a request under {policy.policy.meta.id} ended with {record}")
        taken.sort()
        return {
            "seconds": taken[int(len(taken) * 0.99)],
            "median_seconds": taken[len(taken) // 2],
            "requests": len(asked),
            "bytes_per_policy": self.bytes_each,
        }

    def _write(self, number: int) -> Path:
        folder = Path(self.folder.name) / f"p{number}"
        folder.mkdir()
        vectors = {"v": steering_vector(self.model.d_model, seed=number)}
        save_file(vectors, folder / "directions.safetensors")
        policy = addition("v", str(folder))
        named = policy.model_copy(
            update={"meta": policy.meta.model_copy(update={"id": f"p{number}"})}
        )
        (folder / "policy.yaml").write_text(named.to_yaml())
        return folder

    def _bind(self, folder: Path) -> Bound:
        return self.engine.bind(load_policy(folder))

    def _ask(self, prompt: tuple[int, ...], policy: Bound) -> tuple[Ticket, queue.SimpleQueue[Any]]:
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        return self.engine.submit(Request(prompt, ANSWER, policy=policy), events.put), events


def _last(events: queue.SimpleQueue[Any]) -> Finished:
    while not isinstance(event := events.get(), Finished):
        if isinstance(event, Failed):
            raise event.error
    return event


def _resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


CONTESTANT = Swap
"""Reads and binds policies while the engine runs."""
