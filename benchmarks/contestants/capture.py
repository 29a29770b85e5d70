"""What every capture contestant does the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from benchmarks.contestants.common import evidence, prompts
from benchmarks.serving import Stopwatch


class CaptureContestant(ABC):
    """Reads `resid_post` of every layer over the token file."""

    packages: tuple[str, ...] = ()

    def load(self, options: dict[str, Any]) -> None:
        self.device = options["device"]
        self.tokens = prompts(options)
        with torch.no_grad():
            self.load_model(options)

    def gate(self, options: dict[str, Any]) -> dict[str, Any]:
        tokens = self.tokens[:1]
        with torch.no_grad():
            return evidence(
                options,
                logits=self.logits(tokens),
                resid_post=torch.stack(self.capture(self.prepare(tokens))),
            )

    def repeat(self, options: dict[str, Any]) -> dict[str, Any]:
        tokens = self.tokens[: options["batch"], : options["length"]].contiguous()
        inputs = self.prepare(tokens)
        watch = Stopwatch(self.device)
        with torch.no_grad(), watch.running():
            for _ in range(options["calls"]):
                self.capture(inputs)
        return {"seconds": watch.seconds / options["calls"]}

    @abstractmethod
    def load_model(self, options: dict[str, Any]) -> None:
        """Load the model as the library documents."""

    @abstractmethod
    def logits(self, tokens: Tensor) -> Tensor:
        """Logits through the library, `[batch, seq, vocab]`."""

    def prepare(self, tokens: Tensor) -> Any:
        """Tokens as the library takes them; not timed."""
        return tokens

    @abstractmethod
    def capture(self, inputs: Any) -> list[Tensor]:
        """`resid_post` of each layer, `[batch, seq, d_model]`."""
