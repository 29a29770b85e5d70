"""What every dictionary contestant does the same way.

All begin with the same weights and take the same batches in the same order, with Adam at the same
constant rate, and no feature lives long enough without firing to count as dead. What differs is the
code, so the dictionaries must come out alike: the gate looks at the held-out FVU after the timing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.serving import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator

D_SAE, K, BATCH = 4608, 32, 2048
LEARNING_RATE = 2e-4 / (D_SAE / 2**14) ** 0.5
DEAD_AFTER_TOKENS = 10_000_000
STEPS = 100_000
"""The length of the run that schedules are told; the measurement ends it long before."""


class Feed:
    """Batches for a training loop that runs in a thread of its own and waits here between calls.

    So the loop is the library's own, start to end, and its steps are timed in portions.
    """

    def __init__(self, rows: Tensor) -> None:
        self._batches = rows.split(BATCH)
        self._allowed = threading.Semaphore(0)
        self._asked = threading.Semaphore(0)
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[Tensor]:
        number = 0
        while True:
            self._asked.release()
            self._allowed.acquire()
            yield self._batches[number % len(self._batches)]
            number += 1

    def start(self, contestant: DictionaryContestant) -> None:
        """Run the contestant's loop up to where it asks for its first batch."""

        def run() -> None:
            try:
                contestant.train(iter(self))
            except BaseException as error:
                self._failure = error
            self._asked.release()

        threading.Thread(target=run, daemon=True).start()
        self._wait()

    def advance(self, steps: int) -> None:
        """Let the loop take some steps, until it asks for the next batch."""
        for _ in range(steps):
            self._allowed.release()
            self._wait()

    def _wait(self) -> None:
        self._asked.acquire()
        if self._failure is not None:
            raise RuntimeError("the training loop ended") from self._failure


class DictionaryContestant(ABC):
    """Trains a TopK dictionary on precomputed activations."""

    packages: tuple[str, ...] = ()

    def load(self, options: dict[str, Any]) -> None:
        self.options = options
        self.device = options["device"]
        tensors = load_file(options["activations"], device=self.device)
        self.held_out = tensors["held_out"]
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(D_SAE, self.held_out.shape[1], generator=generator)
        self.first_rows = (rows / rows.norm(dim=1, keepdim=True)).to(self.device)
        """Initial decoder rows, `[d_sae, d_in]`, of norm 1; the encoder is their transpose."""
        self.first_bias = tensors["b_dec"]
        """Initial decoder bias, `[d_in]`."""
        self.feed = Feed(tensors["training"])
        self.feed.start(self)

    def repeat(self, options: dict[str, Any]) -> dict[str, Any]:
        steps = options["steps"]
        watch = Stopwatch(self.device)
        with watch.running():
            self.feed.advance(steps)
        seconds = watch.seconds
        return {"seconds": seconds / steps, "tokens_per_second": BATCH * steps / seconds}

    def gate(self, _options: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            x = self.held_out
            x_hat, active = self.reconstruct(x)
            fvu = (x - x_hat).square().sum() / (x - x.mean(0)).square().sum()
        return {"fvu": float(fvu), "l0": float(active), "rule": self.options["rule"]}

    @abstractmethod
    def train(self, batches: Iterator[Tensor]) -> None:
        """Train on the batches, without end."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions of `x` and the mean number of active features."""
