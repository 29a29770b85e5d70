"""Bare Hugging Face `generate`, unsteered; for the gate, steered by a plain forward hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from benchmarks.contestants.common import evidence
from benchmarks.contestants.generation import (
    LAYER,
    GenerationContestant,
    added,
    answers,
    endless_model,
)

if TYPE_CHECKING:
    from torch import Tensor


class Bare(GenerationContestant):
    packages = ("transformers",)

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = endless_model(options)

    def gate(self, options: dict[str, Any]) -> dict[str, Any]:
        tokens = self.tokens[:1]
        unsteered = self.logits(tokens)
        vector = added(self.model)
        handle = self.model.model.layers[LAYER].register_forward_hook(
            lambda _module, _inputs, output: output + vector
        )
        steered, steered_tokens = self.logits(tokens), self.generate(tokens, 16)
        handle.remove()
        return evidence(
            options, logits=unsteered, steered_logits=steered, steered_tokens=steered_tokens
        )

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(tokens).logits

    def steered_logits(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def generate(self, tokens: Tensor, new_tokens: int) -> Tensor:
        return answers(self.model, tokens, new_tokens)


CONTESTANT = Bare
