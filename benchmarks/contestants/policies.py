"""What the contestants of eight requests under eight policies do the same way.

Requests 1 to 6 each add a vector of their own at `resid_post.15`; request 7 adds one under a
condition that holds, and request 8 under a condition that does not, so it must come out unsteered.
Libraries without conditions are told the outcome. The requests differ in length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from benchmarks.contestants.common import evidence, prompts, steering_vector
from benchmarks.serving import Stopwatch

UNSTEERED = 7
"""Index of the request whose condition does not hold."""


class PoliciesContestant(ABC):
    """Answers eight requests, each under its own policy or all unsteered."""

    packages: tuple[str, ...] = ()

    def load(self, options: dict[str, Any]) -> None:
        self.options = options
        rows = prompts(options).tolist()
        self.requests = [row[: 64 - 4 * i] for i, row in enumerate(rows)]
        self.load_model(options)

    def gate(self, options: dict[str, Any]) -> dict[str, Any]:
        return evidence(options, **self.evidence())

    def evidence(self) -> dict[str, Tensor]:
        """Tokens by which the gate compares: under the policies, unless it runs unsteered."""
        name = "unsteered_tokens" if self.options.get("unsteered") else "steered_tokens"
        return {name: self.answer(32)}

    def repeat(self, options: dict[str, Any]) -> dict[str, Any]:
        watch = Stopwatch(self.options["device"])
        with watch.running():
            tokens = self.answer(options["new_tokens"])
        if tokens.shape != (8, options["new_tokens"]):
            raise RuntimeError(f"answers of shape {tuple(tokens.shape)}")
        return {"seconds": watch.seconds}

    def vector(self, request: int, d_model: int) -> Tensor | None:
        """What is added for a request; None where its condition does not hold."""
        if request == UNSTEERED:
            return None
        return steering_vector(d_model, seed=request).to(self.options["device"])

    def alone(self, request: list[int]) -> Tensor:
        """One request as a batch, `[1, tokens]`."""
        return torch.tensor([request], device=self.options["device"])

    @abstractmethod
    def load_model(self, options: dict[str, Any]) -> None:
        """Load the model as the library documents."""

    @abstractmethod
    def answer(self, new_tokens: int) -> Tensor:
        """Answers to the eight requests, `[8, new_tokens]`."""


def left_padded(requests: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of requests of different lengths, `[8, longest]` each."""
    longest = max(map(len, requests))
    ids = torch.tensor([[0] * (longest - len(r)) + r for r in requests])
    mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in requests])
    return ids, mask
