"""The floor: `register_forward_hook` on each layer of the bare model, and nothing else.

The backbone alone is called, so the unembedding, which no capture needs, is not computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.contestants.capture import CaptureContestant
from benchmarks.contestants.common import bare_model

if TYPE_CHECKING:
    from torch import Tensor, nn


class Floor(CaptureContestant):
    packages = ("transformers",)

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = bare_model(options)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(tokens, use_cache=False).logits

    def capture(self, inputs: Tensor) -> list[Tensor]:
        found: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)

        handles = [layer.register_forward_hook(keep) for layer in self.model.model.layers]
        self.model.model(inputs, use_cache=False)
        for handle in handles:
            handle.remove()
        return found


CONTESTANT = Floor
