"""interp-engine: `run_with_cache` on its eager backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interp_engine import Address, load_model, run_with_cache

from benchmarks.contestants.capture import CaptureContestant

if TYPE_CHECKING:
    from torch import Tensor


class InterpEngine(CaptureContestant):
    packages = ("interp-engine", "transformers")

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = load_model(
            options["model"],
            backend="eager",
            attn_implementation=options["attention"],
            device=options["device"],
            dtype="float32",
        )
        self.points = [Address("resid_post", i) for i in range(self.model.arch.n_layers)]

    def logits(self, tokens: Tensor) -> Tensor:
        return run_with_cache(self.model, tokens, self.points[-1:]).output.logits

    def capture(self, inputs: Tensor) -> list[Tensor]:
        cache = run_with_cache(self.model, inputs, self.points)
        return [cache[point] for point in self.points]


CONTESTANT = InterpEngine
