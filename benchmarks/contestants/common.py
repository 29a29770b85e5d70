"""What contestants share; needs nothing but torch, numpy and, for models, transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def prompts(options: dict[str, Any]) -> Tensor:
    """The token file, `[8, 128]` int64, on the device of the run."""
    return torch.tensor(json.loads(Path(options["tokens"]).read_text()), device=options["device"])


def bare_model(options: dict[str, Any]) -> Any:
    """The Hugging Face model, untouched."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        options["model"], dtype=torch.float32, attn_implementation=options["attention"]
    )
    return model.to(options["device"]).eval()


def evidence(options: dict[str, Any], **arrays: Tensor) -> dict[str, Any]:
    """Write the arrays that the gate compares."""
    np.savez(
        options["file"], **{name: a.detach().float().cpu().numpy() for name, a in arrays.items()}
    )
    return {"file": options["file"]}


def steering_vector(d_model: int, seed: int = 0, norm: float = 4.0) -> Tensor:
    """A random direction of fixed length, the same in every environment."""
    direction = np.random.default_rng(seed).standard_normal(d_model)
    return torch.tensor(norm * direction / np.linalg.norm(direction), dtype=torch.float32)
