from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from interpretops.evals.suites import LoadedSuite, Metric, Suite
from interpretops.prompts import Prompt, PromptSet
from interpretops.steering.policy import (
    Condition,
    DirectionAdd,
    LayerSelector,
    Meta,
    Policy,
    ProbeReading,
    Span,
)
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from interpretops.models import HookedModel


def prompts(count: int, kind: str, **fields: object) -> PromptSet:
    return PromptSet(
        prompts=tuple(
            Prompt.model_validate(
                {
                    "id": f"{kind}{i}",
                    "text": f"{kind} number {i} " + "word " * (i % 3),
                    "category": ("one", "two")[i % 2],
                    "topic": f"topic{i % 4}",
                    **fields,
                }
            )
            for i in range(count)
        ),
        source=kind,
    )


@pytest.fixture
def suites() -> list[LoadedSuite]:
    """Attacks and benign prompts, few and short."""
    attack = Suite(
        name="attacks",
        metrics=(Metric.ATTACK_SUCCESS_RATE, Metric.KL_TO_BASE),
        dataset_uri="attacks.jsonl",
    )
    benign = Suite(
        name="benign",
        metrics=(Metric.OVER_REFUSAL_RATE, Metric.EXACT_MATCH, Metric.BLEU),
        dataset_uri="benign.jsonl",
    )
    scored = Suite(
        name="scored",
        metrics=(Metric.PERPLEXITY, Metric.LOGPROB_ACCURACY),
        dataset_uri="scored.jsonl",
    )
    return [
        LoadedSuite(suite=attack, prompts=prompts(7, "attack", wrapper="fiction")),
        LoadedSuite(suite=benign, prompts=prompts(6, "benign", answers=("a",))),
        LoadedSuite(suite=scored, prompts=prompts(4, "scored", twin="zq xj kk")),
    ]


@pytest.fixture
def make_policy(tmp_path: Path) -> Callable[..., Policy]:
    """A policy for a model of width 32 that adds a vector, with or without a condition."""

    def make(coefficient: float = 1.0, *, threshold: float | None = None) -> Policy:
        folder = tmp_path / f"policy{coefficient}{threshold}"
        folder.mkdir(exist_ok=True)
        generator = torch.Generator().manual_seed(0)
        save_file(
            {
                "v": 4 * torch.randn(32, generator=generator),
                "probe": torch.randn(32, generator=generator),
                "query": torch.randn(32, generator=generator),
            },
            folder / "d.safetensors",
        )
        condition = None
        if threshold is not None:
            readings = (
                ProbeReading(layer=0, vector="d.safetensors#probe", prompt_tail=2),
                ProbeReading(
                    layer=0, vector="d.safetensors#probe", attention="d.safetensors#query", skip=1
                ),
            )
            condition = Condition(probe=readings, threshold=threshold)
        return Policy(
            meta=Meta(id="test-policy", target_class="jailbreak"),
            condition=condition,
            interventions=(
                DirectionAdd(
                    type="direction_add",
                    selector=LayerSelector(layer=1),
                    vector="d.safetensors#v",
                    coefficient=coefficient,
                    span=Span(prompt_tail=2, answer_tokens=3),
                ),
            ),
        ).within(folder)

    return make


@pytest.fixture
def tiny(make_tiny: Callable[..., HookedModel]) -> HookedModel:
    """A tiny model with room for a system prompt of one token per byte."""
    return make_tiny("llama", max_position_embeddings=1024)
