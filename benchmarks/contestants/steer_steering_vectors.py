"""steering-vectors: `SteeringVector.apply` around `generate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from steering_vectors import SteeringVector

from benchmarks.contestants.generation import (
    LAYER,
    GenerationContestant,
    added,
    answers,
    endless_model,
)

if TYPE_CHECKING:
    from torch import Tensor


class SteeringVectors(GenerationContestant):
    packages = ("steering-vectors", "transformers")

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = endless_model(options)
        self.vector = SteeringVector({LAYER: added(self.model)}, "decoder_block")

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(tokens).logits

    @torch.inference_mode()
    def steered_logits(self, tokens: Tensor) -> Tensor:
        with self.vector.apply(self.model):
            return self.model(tokens).logits

    def generate(self, tokens: Tensor, new_tokens: int) -> Tensor:
        with self.vector.apply(self.model):
            return answers(self.model, tokens, new_tokens)


CONTESTANT = SteeringVectors
