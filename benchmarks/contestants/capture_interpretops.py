"""Ours: `HookedModel.capture`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interpretops.models import Batch, HookedModel

from benchmarks.contestants.capture import CaptureContestant

if TYPE_CHECKING:
    from torch import Tensor


class Ours(CaptureContestant):
    packages = ("transformers",)

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = HookedModel(
            options["model"],
            dtype="float32",
            device=options["device"],
            attn_implementation=options["attention"],
        )
        self.sites = [f"resid_post.{layer}" for layer in range(self.model.n_layers)]

    def prepare(self, tokens: Tensor) -> Batch:
        return Batch.from_ids(tokens.tolist(), pad_id=self.model.pad_id, device=self.model.device)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model.logits(self.prepare(tokens))

    def capture(self, inputs: Batch) -> list[Tensor]:
        return list(self.model.capture(inputs, self.sites).values())


CONTESTANT = Ours
