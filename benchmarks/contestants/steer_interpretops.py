"""Ours: `SteeringSession.stream`, unsteered or under one of three treatments."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from interpretops.models import Address, Batch, HookedModel
from interpretops.sae import TrainingRule, new_sae
from interpretops.steering import Policy, SteeringSession
from safetensors.torch import save_file

from benchmarks.contestants.common import steering_vector
from benchmarks.contestants.generation import LAYER, GenerationContestant

if TYPE_CHECKING:
    from torch import Tensor

PROBE_LAYER = 6
ALWAYS, NEVER = -1e5, 1e5
"""Thresholds of a condition that holds for every prompt, and for none."""


class Ours(GenerationContestant):
    packages = ("transformers",)

    def load_model(self, options: dict[str, Any]) -> None:
        self.model = endless_hooked_model(options)
        self.folder = tempfile.TemporaryDirectory()
        vectors = {f"v{i}": steering_vector(self.model.d_model, seed=i) for i in range(10)}
        vectors["probe"] = steering_vector(self.model.d_model, seed=100)
        save_file(vectors, Path(self.folder.name) / "directions.safetensors")
        self.policies, self.dictionary = self._treatment(options["treatment"])

    def _treatment(self, name: str) -> tuple[list[Policy], Any]:
        if name == "none":
            return [], None
        if name == "add":
            return [addition("v0", self.folder.name)], None
        if name == "clamp":
            sae = new_sae(TrainingRule(k=32), self.model.d_model, 4608).requires_grad_(False)
            return [self._clamp()], SimpleNamespace(saes={Address("resid_post", LAYER): sae})
        if name == "rules":
            # Ten rules, each with a condition of its own; every other one holds.
            thresholds = [ALWAYS, NEVER] * 5
            return [
                addition(f"v{i}", self.folder.name, threshold=t) for i, t in enumerate(thresholds)
            ], None
        raise ValueError(name)

    def _clamp(self) -> Policy:
        return Policy.model_validate(
            {
                "meta": {"id": "clamp", "target_class": "benchmark"},
                "interventions": [
                    {
                        "type": "feature_clamp",
                        "selector": {"layer": LAYER, "sae_feature_ids": [7]},
                        "clamp_range": [2.0, 6.0],
                    }
                ],
            }
        )

    def _sessions(self) -> ExitStack:
        stack = ExitStack()
        for policy in self.policies:
            stack.enter_context(SteeringSession(self.model, policy, dictionary=self.dictionary))
        return stack

    def _batch(self, tokens: Tensor) -> Batch:
        return Batch.from_ids(tokens.tolist(), pad_id=self.model.pad_id, device=self.model.device)

    @torch.inference_mode()
    def logits(self, tokens: Tensor) -> Tensor:
        return self.model.logits(self._batch(tokens))

    @torch.inference_mode()
    def steered_logits(self, tokens: Tensor) -> Tensor:
        with self._sessions():
            return self.model.logits(self._batch(tokens))

    def generate(self, tokens: Tensor, new_tokens: int) -> Tensor:
        with self._sessions():
            steps = self.model.stream(self._batch(tokens), new_tokens)
            return torch.stack([step.tokens for step in steps], dim=1)


def endless_hooked_model(options: dict[str, Any]) -> HookedModel:
    """Our model, without a token that ends an answer."""
    model = HookedModel(
        options["model"],
        dtype="float32",
        device=options["device"],
        attn_implementation=options["attention"],
    )
    model.hf.generation_config.eos_token_id = None
    model.tokenizer.eos_token = None
    return model


def addition(key: str, folder: str, threshold: float | None = None) -> Policy:
    """A policy that adds a vector at `resid_post.15`, gated where a threshold is given."""
    plain: dict[str, Any] = {
        "meta": {"id": f"add-{key}", "target_class": "benchmark"},
        "interventions": [
            {
                "type": "direction_add",
                "selector": {"layer": LAYER},
                "vector": f"directions.safetensors#{key}",
            }
        ],
    }
    if threshold is not None:
        probe = {"layer": PROBE_LAYER, "vector": "directions.safetensors#probe"}
        plain["condition"] = {"probe": [probe], "threshold": threshold}
    return Policy.model_validate(plain).within(Path(folder))


CONTESTANT = Ours
