"""What every contestant is given: a model folder, a token file, and precomputed activations.

The text is the language reference that ships inside CPython, so nothing needs to be fetched.
"""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data.topics import topics

import torch
from interpretops.models import Batch, HookedModel
from interpretops.sae.trainer import geometric_median
from safetensors.torch import save_file

PROMPTS, PROMPT_LENGTH = 8, 128
SITE = "resid_post.9"
BATCH = 2048
TRAINING_ROWS, HELD_OUT_ROWS = 32 * BATCH, 4096
_SEQUENCE = 256


def model_folder(model: str, cache: Path) -> Path:
    """A folder that every peer can load, whichever transformers it is pinned to.

    transformers 4 reads `rope_theta` where transformers 5 writes `rope_parameters`; without the old
    name it would silently compute with another base.
    """
    source = Path(HookedModel(model, device="cpu", cache_dir=cache).config.name_or_path).resolve()
    folder = cache / "benchmarks" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        link = folder / path.name
        link.unlink(missing_ok=True)
        if path.name != "config.json":
            link.symlink_to(path)
    config = json.loads((source / "config.json").read_text())
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        config["rope_theta"] = rope["rope_theta"]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def token_file(model: HookedModel, cache: Path) -> Path:
    """Eight prompts of 128 tokens as JSON."""
    path = cache / "benchmarks" / "tokens.json"
    path.write_text(json.dumps(_sequences(model, PROMPTS, PROMPT_LENGTH)))
    return path


def activation_file(model: HookedModel, cache: Path) -> Path:
    """Activations at `SITE`, scaled to a mean norm of `sqrt(d_model)`: `training` and `held_out`;
    and `b_dec`, the geometric median of the first batch.

    The first position of each sequence is left out: its norm is hundreds of times the others'.
    """
    path = cache / "benchmarks" / "activations.safetensors"
    if path.is_file():
        return path
    wanted = TRAINING_ROWS + HELD_OUT_ROWS
    sequences = _sequences(model, -(-wanted // (_SEQUENCE - 1)), _SEQUENCE)
    found = []
    for start in range(0, len(sequences), 8):
        batch = Batch.from_ids(
            sequences[start : start + 8], pad_id=model.pad_id, device=model.device
        )
        (values,) = model.capture(batch, [SITE]).values()
        found.append(values[:, 1:].flatten(0, 1).cpu())
    rows = torch.cat(found)
    rows = rows * (model.d_model**0.5 / rows.norm(dim=1).mean())
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    partial = path.with_suffix(".partial")
    save_file(
        {
            "training": rows[:TRAINING_ROWS].contiguous(),
            "b_dec": geometric_median(rows[:BATCH]),
            "held_out": rows[TRAINING_ROWS:wanted].contiguous(),
        },
        partial,
    )
    partial.rename(path)
    return path


def _sequences(model: HookedModel, count: int, length: int) -> list[list[int]]:
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) < count * length:
        raise ValueError(f"the text has {len(ids)} tokens, fewer than {count * length}")
    return [ids[i * length : (i + 1) * length] for i in range(count)]
