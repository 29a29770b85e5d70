"""repeng: one request after another, the control set anew for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from repeng import ControlModel, ControlVector

from benchmarks.contestants.generation import LAYER, answers, endless_model
from benchmarks.contestants.policies import PoliciesContestant

if TYPE_CHECKING:
    from torch import Tensor


class Repeng(PoliciesContestant):
    packages = ("repeng", "transformers")

    def load_model(self, options: dict[str, Any]) -> None:
        model = endless_model(options)
        width = model.config.hidden_size
        self.controls = [
            None if vector is None else ControlVector("llama", {LAYER: vector.cpu().numpy()})
            for vector in (self.vector(i, width) for i in range(8))
        ]
        self.model = ControlModel(model, [LAYER])

    def answer(self, new_tokens: int) -> Tensor:
        found = []
        for request, control in zip(self.requests, self.controls, strict=True):
            if control is None:
                self.model.reset()
            else:
                self.model.set_control(control)
            found.append(answers(self.model, self.alone(request), new_tokens)[0])
        return torch.stack(found)


CONTESTANT = Repeng
