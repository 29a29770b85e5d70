"""interp-engine: `steer` around `generate_stream`, one prompt at a time as it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from interp_engine import (
    Address,
    AddSpec,
    SteeringSpec,
    generate_stream,
    load_model,
    run_with_cache,
    steer,
)

from benchmarks.contestants.common import steering_vector
from benchmarks.contestants.generation import LAYER, GenerationContestant

if TYPE_CHECKING:
    from torch import Tensor


class InterpEngine(GenerationContestant):
    packages = ("interp-engine", "transformers")

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = load_model(
            options["model"],
            backend="eager",
            attn_implementation=options["attention"],
            device=options["device"],
            dtype="float32",
        )
        vector = steering_vector(self.model.arch.d_model).to(options["device"])
        self.spec = SteeringSpec.at(Address("resid_post", LAYER), AddSpec(vector, scale=1.0))

    def logits(self, tokens: Tensor) -> Tensor:
        return run_with_cache(self.model, tokens, [Address("resid_post", LAYER)]).output.logits

    def steered_logits(self, tokens: Tensor) -> Tensor:
        with steer(self.model, self.spec):
            return self.logits(tokens)

    def generate(self, tokens: Tensor, new_tokens: int) -> Tensor:
        if len(tokens) > 1:
            raise NotImplementedError("generate_stream takes one prompt")
        with steer(self.model, self.spec):
            steps = generate_stream(
                self.model, tokens, max_tokens=new_tokens, temperature=0.0, stop_at_eos=False
            )
            return torch.tensor([[step.token_id for step in steps]])


CONTESTANT = InterpEngine
