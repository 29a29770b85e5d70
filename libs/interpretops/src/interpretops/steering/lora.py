"""Low-rank adapters in PEFT's format, read and written, for gates that are never merged."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from interpretops.models import HookedModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_KEY = re.compile(r"^base_model\.model\.(?P<path>.+)\.lora_(?P<side>[AB])\.weight$")

Pair = tuple[torch.Tensor, torch.Tensor]
"""`down` [rank, in] and `up` [out, rank], the scale already in `up`."""


@dataclass(frozen=True)
class LoraAdapter:
    """A low-rank adapter (Hu et al. 2021, arXiv:2106.09685) by module path.

    Attributes:
        weights: Module path to `(down [rank, in], up [out, rank])`, with `lora_alpha / r` in `up`.
        rank: The rank.
    """

    weights: Mapping[str, Pair]
    rank: int

    @classmethod
    def load(cls, folder: Path) -> LoraAdapter:
        """Read a folder that PEFT's `save_pretrained` (or `save`) wrote.

        Raises:
            InterpretOpsError: When it is not a LoRA adapter this system can gate.
        """
        try:
            config = json.loads((folder / CONFIG).read_text())
            tensors = load_file(folder / WEIGHTS)
            rank, alpha = int(config["r"]), float(config["lora_alpha"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InterpretOpsError(
                f"{folder} is not a readable PEFT adapter ({error})",
                fix=f"name a folder with {CONFIG} and {WEIGHTS}",
            ) from error
        for setting in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save"):
            if config.get(setting):
                raise InterpretOpsError(
                    f"the adapter {folder} uses {setting}, which a gate does not support",
                    fix="train it as plain LoRA with one rank",
                )
        scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        sides: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            match = _KEY.match(key)
            if match is None:
                raise InterpretOpsError(
                    f"the adapter {folder} holds {key}, which is no LoRA weight",
                    fix="train it as plain LoRA",
                )
            sides.setdefault(match["path"], {})[match["side"]] = tensor.float()
        weights = {path: (pair["A"], pair["B"] * scale) for path, pair in sides.items()}
        return cls(weights, rank)

    def save(self, folder: Path, *, base_model: str) -> None:
        """Write the adapter so that PEFT loads it (`lora_alpha` equals the rank: scale 1)."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for path, (down, up) in self.weights.items():
            tensors[f"base_model.model.{path}.lora_A.weight"] = down.detach().cpu().contiguous()
            tensors[f"base_model.model.{path}.lora_B.weight"] = up.detach().cpu().contiguous()
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "r": self.rank,
            "lora_alpha": self.rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "target_modules": sorted(self.weights),
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))

    def select(
        self,
        model: HookedModel,
        block: Literal["attn", "mlp"],
        layers: Sequence[int] | None,
        heads: Sequence[int] | None,
    ) -> dict[str, Pair]:
        """The part of the adapter that a selector names.

        Heads restrict the output projection to those heads' inputs, and the query projection to
        their outputs; key and value projections are shared by head groups and act if any head of
        their group is selected.
        """
        chosen: dict[str, Pair] = {}
        for layer in range(model.n_layers) if layers is None else layers:
            if layer >= model.n_layers:
                raise InterpretOpsError(
                    f"the lora_gate selects layer {layer}",
                    fix=f"choose from 0 to {model.n_layers - 1}",
                )
            for path, owner in model.module_paths(layer).items():
                if path in self.weights and owner == block:
                    down, up = self.weights[path]
                    chosen[path] = (
                        (down, up) if heads is None else _only(path, down, up, heads, model)
                    )
        return chosen


def _only(
    path: str, down: torch.Tensor, up: torch.Tensor, heads: Sequence[int], model: HookedModel
) -> Pair:
    """Zero what belongs to other heads."""
    width = model.head_dim
    n_in, n_out = model.n_heads * width, up.shape[0]
    leaf = path.rpartition(".")[2]
    if leaf in ("o_proj", "out_proj", "dense") and down.shape[1] == n_in:
        keep = torch.zeros(model.n_heads, width)
        keep[list(heads)] = 1
        return down * keep.flatten(), up
    if leaf == "q_proj" and n_out == n_in:
        keep = torch.zeros(model.n_heads, width)
        keep[list(heads)] = 1
        return down, up * keep.flatten()[:, None]
    if leaf in ("k_proj", "v_proj"):
        per_group = model.n_heads // model.n_kv_heads
        keep = torch.zeros(model.n_kv_heads, width)
        keep[sorted({head // per_group for head in heads})] = 1
        return down, up * keep.flatten()[:, None]
    raise InterpretOpsError(
        f"the adapter's {path} cannot be split by head",
        fix="select without `heads`, or train the adapter on q_proj, k_proj, v_proj or o_proj",
    )
