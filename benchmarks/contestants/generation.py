"""What every generation contestant does the same way.

End-of-text tokens are ignored by all, so that each answer has the same length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from benchmarks.contestants.common import bare_model, evidence, prompts, steering_vector
from benchmarks.serving import Stopwatch

LAYER = 15


class GenerationContestant(ABC):
    """Continues the token file greedily, unsteered or under one treatment."""

    packages: tuple[str, ...] = ()

    def load(self, options: dict[str, Any]) -> None:
        self.options = options
        self.tokens = prompts(options)
        with torch.no_grad():
            self.load_model(options)

    def gate(self, options: dict[str, Any]) -> dict[str, Any]:
        tokens = self.tokens[:1]
        found = {"logits": self.logits(tokens)}
        if self.options["treatment"] == "add":
            found["steered_logits"] = self.steered_logits(tokens)
            found["steered_tokens"] = self.generate(tokens, 16)
        return evidence(options, **found)

    def repeat(self, options: dict[str, Any]) -> dict[str, Any]:
        tokens = self.tokens[: options["batch"], : options["prompt"]].contiguous()
        watch = Stopwatch(self.options["device"])
        with watch.running():
            answers = self.generate(tokens, options["new_tokens"])
        if answers.shape != (options["batch"], options["new_tokens"]):
            raise RuntimeError(f"answers of shape {tuple(answers.shape)}")
        return {"seconds": watch.seconds}

    @abstractmethod
    def load_model(self, options: dict[str, Any]) -> None:
        """Load the model as the library documents."""

    @abstractmethod
    def logits(self, tokens: Tensor) -> Tensor:
        """Unsteered logits, `[batch, seq, vocab]`."""

    @abstractmethod
    def steered_logits(self, tokens: Tensor) -> Tensor:
        """Logits under the treatment, `[batch, seq, vocab]`."""

    @abstractmethod
    def generate(self, tokens: Tensor, new_tokens: int) -> Tensor:
        """Answers under the treatment, `[batch, new_tokens]`."""


def endless_model(options: dict[str, Any]) -> Any:
    """The bare model, without a token that ends an answer."""
    model = bare_model(options)
    model.generation_config.eos_token_id = None
    return model


def answers(model: Any, tokens: Tensor, new_tokens: int, mask: Tensor | None = None) -> Tensor:
    """What `generate` of Hugging Face adds to the prompts, greedily."""
    out = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens) if mask is None else mask,
        max_new_tokens=new_tokens,
        do_sample=False,
    )
    return out[:, tokens.shape[1] :]


def added(model: Any) -> Tensor:
    """The vector that every contestant adds at `resid_post.15`."""
    return steering_vector(model.config.hidden_size).to(model.device)
