"""repeng: a `ControlModel` around one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from repeng import ControlModel, ControlVector

from benchmarks.contestants.generation import (
    LAYER,
    GenerationContestant,
    added,
    answers,
    endless_model,
)

if TYPE_CHECKING:
    from torch import Tensor


class Repeng(GenerationContestant):
    packages = ("repeng", "transformers")

    def load_model(self, options: dict[str, Any]) -> None:
        model = endless_model(options)
        self.vector = ControlVector("llama", {LAYER: added(model).cpu().numpy()})
        self.model = ControlModel(model, [LAYER])
        self.model.set_control(self.vector)

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        self.model.reset()
        logits = self.model(tokens).logits
        self.model.set_control(self.vector)
        return logits

    @torch.inference_mode()
    def steered_logits(self, tokens: Tensor) -> Tensor:
        return self.model(tokens).logits

    def generate(self, tokens: Tensor, new_tokens: int) -> Tensor:
        return answers(self.model, tokens, new_tokens)


CONTESTANT = Repeng
