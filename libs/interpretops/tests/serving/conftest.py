"""Policies over tiny models, and requests whose answers are compared with solo runs."""

from __future__ import annotations

import queue
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.serving import Chunk, Failed, Finished, Limits, Request, ServingEngine, Started
from interpretops.steering import Policy, SteeringSession
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from interpretops.models import HookedModel

LAYER = 1
PATIENCE = 60


@dataclass
class Answer:
    """Everything a request was told."""

    events: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    started: Started | None = None
    chunks: list[Chunk] = field(default_factory=list)
    finished: Finished | None = None
    error: Exception | None = None

    @property
    def ids(self) -> list[int]:
        return [token.id for chunk in self.chunks for token in chunk.tokens]

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    def wait(self, until: Callable[[Answer], bool] | None = None) -> Answer:
        """Take events in until the end, or until this holds."""
        while self.finished is None and self.error is None:
            if until is not None and until(self):
                break
            event = self.events.get(timeout=PATIENCE)
            if isinstance(event, Started):
                self.started = event
            elif isinstance(event, Chunk):
                self.chunks.append(event)
            elif isinstance(event, Finished):
                self.finished = event
            elif isinstance(event, Failed):
                self.error = event.error
        return self


class Bench:
    """A model, its engine, and policies for it."""

    def __init__(self, model: HookedModel, folder: Path, limits: Limits) -> None:
        self.model = model
        self.folder = folder
        self.engine = ServingEngine(model, limits)

    def policy(self, name: str, *interventions: dict[str, Any], **more: Any) -> Policy:
        data = {"meta": {"id": name, "target_class": "t"}, "interventions": interventions, **more}
        return Policy.model_validate(data).within(self.folder)

    def add(self, vector: str = "a", coefficient: float = 2.0, **more: Any) -> dict[str, Any]:
        return {
            "type": "direction_add",
            "selector": {"layer": LAYER},
            "vector": f"v.safetensors#{vector}",
            "coefficient": coefficient,
            **more,
        }

    def gate(self, threshold: float) -> dict[str, Any]:
        probe = [
            {"layer": 0, "vector": "v.safetensors#c", "prompt_tail": 4},
            {"layer": 1, "vector": "v.safetensors#b", "attention": "v.safetensors#a"},
        ]
        return {"condition": {"probe": probe, "threshold": threshold}}

    def eight_policies(self) -> list[Policy | None]:
        """None, and seven that differ in kind, span and condition."""
        head = {"type": "head_scale", "selector": {"layer": 2, "heads": [1]}, "scale": 0.0}
        ablate = {
            "type": "direction_ablate",
            "selector": {"layer": LAYER},
            "vector": "v.safetensors#c",
        }
        span = {"prompt_tail": 3, "answer_tokens": 4}
        return [
            None,
            self.policy("add", self.add()),
            self.policy("span", self.add("b", span=span), self.add("a", 0.5)),
            self.policy("always", self.add("b"), **self.gate(-1e5)),
            self.policy("never", self.add(), **self.gate(1e5)),
            self.policy("some", self.add("b"), **self.gate(0.0)),
            self.policy("head", head),
            self.policy("ablate", ablate, self.add("c", span={"prompt_tail": 0})),
        ]

    def ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.model.token_ids(text))

    def submit(
        self, prompt: str | tuple[int, ...], max_new_tokens: int = 10, **fields: Any
    ) -> Answer:
        answer = Answer()
        ids = self.ids(prompt) if isinstance(prompt, str) else prompt
        answer.ticket = self.engine.submit(  # type: ignore[attr-defined]
            Request(ids, max_new_tokens, **fields), answer.events.put
        )
        return answer

    def solo(self, prompt: str, policy: Policy | None, max_new_tokens: int = 10) -> tuple[Any, Any]:
        """Tokens and record of a batch of one in a session."""
        with SteeringSession(self.model, [policy]) as session:
            steps = session.stream(self.model.encode([prompt]), max_new_tokens)
            return self.model.collect(steps, 1)[0], session.record[0]


@pytest.fixture
def bench(make_tiny: Callable[..., HookedModel], tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """`bench("gemma2", max_rows=4)`."""
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(32, generator=generator) * 3 for name in ("a", "b", "c")}
    save_file(vectors, tmp_path / "v.safetensors")
    made: list[Bench] = []

    def make(architecture: str = "llama", *, endless: bool = False, **limits: int) -> Bench:
        model = make_tiny(architecture)
        if endless:
            model.end_ids = torch.tensor([], dtype=torch.int64)
        made.append(Bench(model, tmp_path, Limits(**limits)))
        return made[-1]

    yield make
    for each in made:
        each.engine.close()


def texts(count: int, longest: int = 60, seed: int = 0) -> list[str]:
    """Prompts of many lengths."""
    rng = random.Random(seed)
    return [
        "".join(rng.choice("abcdefgh ") for _ in range(rng.randint(1, longest)))
        for _ in range(count)
    ]
