"""nnsight: one `trace` with a save at every layer, run to the end or stopped after the last."""

from __future__ import annotations

from typing import Any

import nnsight
import torch
from nnsight import TransformersModel
from torch import Tensor

from benchmarks.contestants.capture import CaptureContestant


class NNsight(CaptureContestant):
    packages = ("nnsight", "transformers")

    def load_model(self, options: dict[str, Any]) -> None:
        self.stop = options["stop"]
        self.model = TransformersModel(
            options["model"],
            task="text-generation",
            dispatch=True,
            dtype=torch.float32,
            attn_implementation=options["attention"],
            device_map=options["device"],
        )

    def logits(self, tokens: Tensor) -> Tensor:
        with self.model.trace(tokens):
            found = nnsight.save([self.model.lm_head.output])
        return found[0]

    def capture(self, inputs: Tensor) -> list[Tensor]:
        with self.model.trace(inputs, use_cache=False) as tracer:
            found = nnsight.save([layer.output for layer in self.model.model.layers])
            if self.stop:
                tracer.stop()
        return found


CONTESTANT = NNsight
