"""nnsight: one `generate` with an invoke per request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from nnsight import TransformersModel

from benchmarks.contestants.generation import LAYER
from benchmarks.contestants.policies import PoliciesContestant

if TYPE_CHECKING:
    from torch import Tensor


class NNsight(PoliciesContestant):
    packages = ("nnsight", "transformers")

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = TransformersModel(
            options["model"],
            task="text-generation",
            dispatch=True,
            dtype=torch.float32,
            attn_implementation=options["attention"],
            device_map=options["device"],
        )
        self.model.generation_config.eos_token_id = None
        width = self.model.config.hidden_size
        self.inputs = [
            (self.alone(request), self.vector(number, width))
            for number, request in enumerate(self.requests)
        ]

    def answer(self, new_tokens: int) -> Tensor:
        layer = self.model.model.layers[LAYER]
        with self.model.generate(max_new_tokens=new_tokens, do_sample=False) as tracer:
            for tokens, vector in self.inputs:
                with tracer.invoke(tokens):
                    if vector is not None:
                        for _ in tracer.iter[:new_tokens]:
                            layer.output = layer.output + vector
            with tracer.invoke():
                result = tracer.result.save()
        return result[:, -new_tokens:]


CONTESTANT = NNsight
