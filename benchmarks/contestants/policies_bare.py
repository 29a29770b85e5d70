"""Bare Hugging Face: times the unsteered batch; eight solo runs with plain hooks are the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from benchmarks.contestants.generation import LAYER, answers, endless_model
from benchmarks.contestants.policies import PoliciesContestant, left_padded

if TYPE_CHECKING:
    from torch import Tensor


class Bare(PoliciesContestant):
    packages = ("transformers",)

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = endless_model(options)

    def evidence(self) -> dict[str, Tensor]:
        solo = []
        for number, request in enumerate(self.requests):
            vector = self.vector(number, self.model.config.hidden_size)
            delta = 0.0 if vector is None else vector
            handle = self.model.model.layers[LAYER].register_forward_hook(
                lambda _module, _inputs, output, delta=delta: output + delta
            )
            solo.append(answers(self.model, self.alone(request), 32)[0])
            handle.remove()
        return {"steered_tokens": torch.stack(solo), "unsteered_tokens": self.answer(32)}

    def answer(self, new_tokens: int) -> Tensor:
        ids, mask = (part.to(self.model.device) for part in left_padded(self.requests))
        return answers(self.model, ids, new_tokens, mask)


CONTESTANT = Bare
