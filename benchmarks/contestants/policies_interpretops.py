"""Ours: one batch in a `SteeringSession` with one policy per row."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from interpretops.models import Batch
from interpretops.steering import SteeringSession
from safetensors.torch import save_file

from benchmarks.contestants.common import steering_vector
from benchmarks.contestants.policies import UNSTEERED, PoliciesContestant
from benchmarks.contestants.steer_interpretops import (
    ALWAYS,
    NEVER,
    addition,
    endless_hooked_model,
)

if TYPE_CHECKING:
    from torch import Tensor


class Ours(PoliciesContestant):
    packages = ("transformers",)

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = endless_hooked_model(options)
        self.folder = tempfile.TemporaryDirectory()
        vectors = {f"v{i}": steering_vector(self.model.d_model, seed=i) for i in range(8)}
        vectors["probe"] = steering_vector(self.model.d_model, seed=100)
        save_file(vectors, Path(self.folder.name) / "directions.safetensors")
        thresholds = {UNSTEERED - 1: ALWAYS, UNSTEERED: NEVER}
        self.policies = [
            addition(f"v{i}", self.folder.name, threshold=thresholds.get(i)) for i in range(8)
        ]

    def answer(self, new_tokens: int) -> Tensor:
        batch = Batch.from_ids(self.requests, pad_id=self.model.pad_id, device=self.model.device)
        unsteered = self.options["unsteered"]
        session = nullcontext() if unsteered else SteeringSession(self.model, self.policies)
        with session:
            return torch.stack([step.tokens for step in self.model.stream(batch, new_tokens)], 1)


CONTESTANT = Ours
