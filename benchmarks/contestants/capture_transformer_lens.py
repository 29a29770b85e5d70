"""TransformerLens: `TransformerBridge.run_with_cache` with a names filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformer_lens.model_bridge import TransformerBridge

from benchmarks.contestants.capture import CaptureContestant

if TYPE_CHECKING:
    from torch import Tensor


class TransformerLens(CaptureContestant):
    packages = ("transformer-lens", "transformers")

    def load_model(self, options: dict[str, Any]) -> None:
        self.bridge = TransformerBridge.boot_transformers(
            options["model"], device=options["device"]
        )
        self.names = [f"blocks.{i}.hook_resid_post" for i in range(self.bridge.cfg.n_layers)]

    def logits(self, tokens: Tensor) -> Tensor:
        return self.bridge(tokens)

    def capture(self, inputs: Tensor) -> list[Tensor]:
        _, cache = self.bridge.run_with_cache(inputs, names_filter=self.names)
        return [cache[name] for name in self.names]


CONTESTANT = TransformerLens
