"""SAELens' on-disk format: a folder with `cfg.json` and `sae_weights.safetensors`.

Written as SAELens 6.54 writes inference models, so `sae_lens.SAE.load_from_disk` opens the folder.
SAELens has no BatchTopK for inference: it stores one as a JumpReLU whose thresholds are all equal,
and so do we. What SAELens has no place for (the thresholds at which features of a TopK dictionary
are read one by one) lies beside its files in `threshold.safetensors`, which it ignores.

Read are `topk`, `jumprelu`, `gated`, `standard` (a JumpReLU with thresholds of zero) and training
checkpoints of `batchtopk`, from version 6 and from the flat configs before it.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from interpretops.artifacts.objects import write_atomically
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, site
from interpretops.sae.gated import GatedSAE
from interpretops.sae.jumprelu import JumpReLUSAE
from interpretops.sae.topk import BatchTopKSAE, TopKSAE

if TYPE_CHECKING:
    from torch import Tensor

    from interpretops.sae.module import SAE

CONFIG, WEIGHTS, THRESHOLD = "cfg.json", "sae_weights.safetensors", "threshold.safetensors"
FORMAT_VERSION = "6.54.0"
"""The SAELens version whose format is written; it decides how SAELens reads the config."""

_HOOKS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
}


def hook_name(address: Address) -> str:
    """The TransformerLens name of a site; the site's own name where there is none."""
    hook = _HOOKS.get(address.name)
    return str(address) if hook is None else f"blocks.{address.layer}.{hook}"


def address_of(name: str) -> Address | None:
    """The site a TransformerLens hook name stands for, or None where we know no such site."""
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if match:
        for ours, theirs in _HOOKS.items():
            if theirs == match[2]:
                return Address(ours, int(match[1]))
        return None
    try:
        return site(name)
    except InterpretOpsError:
        return None


def save_saelens(
    sae: SAE, folder: Path, *, model_name: str | None = None, context_size: int | None = None
) -> Path:
    """Write a dictionary into a folder that SAELens loads; see `saelens_files`.

    Returns:
        The folder, made if it was missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = saelens_files(sae, model_name=model_name, context_size=context_size)
    for name, data in files.items():
        write_atomically(folder / name, data)
    return folder


def saelens_files(
    sae: SAE, *, model_name: str | None = None, context_size: int | None = None
) -> dict[str, bytes]:
    """A dictionary as the files of a folder that SAELens loads.

    Args:
        sae: The dictionary; decoder norms and input scale must already be folded, as they are in
            every dictionary that `fit` returns.
        model_name: Recorded in the metadata.
        context_size: Recorded in the metadata.

    Returns:
        File contents by name, the same bytes for the same dictionary.
    """
    config: dict[str, Any] = {
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    metadata: dict[str, Any] = {
        "sae_lens_version": FORMAT_VERSION,
        "sae_lens_training_version": None,
        "interpretops_version": _own_version(),
        "model_name": model_name,
        "hook_name": None if sae.address is None else hook_name(sae.address),
        "hook_head_index": None,
        "context_size": context_size,
        "input_scale": sae.input_scale,
    }
    tensors: dict[str, Tensor] = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    if isinstance(sae, GatedSAE):
        config["architecture"] = "gated"
        tensors |= {"b_gate": sae.b_gate, "b_mag": sae.b_mag, "r_mag": sae.r_mag}
    elif isinstance(sae, TopKSAE):
        config |= {"architecture": "topk", "k": sae.k, "rescale_acts_by_decoder_norm": False}
        tensors["b_enc"] = sae.b_enc
    elif isinstance(sae, BatchTopKSAE):
        config["architecture"] = "jumprelu"
        metadata["training_architecture"] = "batchtopk"
        metadata["training_architecture_details"] = {"k": sae.k}
        tensors |= {"b_enc": sae.b_enc, "threshold": sae.threshold}
    elif isinstance(sae, JumpReLUSAE):
        config["architecture"] = "jumprelu"
        metadata["training_architecture"] = "jumprelu"
        tensors |= {"b_enc": sae.b_enc, "threshold": sae.threshold}
    config["metadata"] = metadata
    files = {
        WEIGHTS: to_bytes(_plain(tensors)),
        CONFIG: json.dumps(config, indent=2, sort_keys=True).encode(),
    }
    if isinstance(sae, TopKSAE):
        files[THRESHOLD] = to_bytes(_plain({"threshold": sae.threshold}))
    return files


def load_saelens(folder: str | Path) -> SAE:
    """Read a dictionary that SAELens (or `save_saelens`) wrote, in float32 on the CPU.

    What SAELens keeps apart is folded into the weights: decoder norms where activations are
    rescaled by them, and the bias where `b_dec` is not applied to the input.

    Raises:
        InterpretOpsError: When files are missing or damaged, or the dictionary is of a kind or has
            an input normalisation that cannot be read.
    """
    folder = Path(folder)
    config, tensors = _read(folder)
    config = _current(config)
    metadata = config.get("metadata") or {}
    normalisation = config.get("normalize_activations", "none")
    if normalisation != "none":
        raise InterpretOpsError(
            f"{folder} expects inputs normalised by {normalisation!r}, which its weights do not "
            "hold",
            fix="fold the normalisation into the weights in SAELens and save it again",
        )
    name = str(metadata.get("hook_name") or "")
    kind = str(config["architecture"])
    try:
        sae = _build(kind, config, metadata, tensors, address_of(name) if name else None)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InterpretOpsError(
            f"the weights in {folder} do not fit a {kind} dictionary ({error})",
            fix="save it again with SAELens 6 or newer",
        ) from error
    if isinstance(sae, TopKSAE) and (folder / THRESHOLD).is_file():
        sae.threshold.copy_(load_file(folder / THRESHOLD)["threshold"])
    sae.input_scale = float(metadata.get("input_scale") or 1.0)
    return sae.requires_grad_(False)


@torch.no_grad()
def _build(
    kind: str,
    config: dict[str, Any],
    metadata: dict[str, Any],
    tensors: dict[str, Tensor],
    address: Address | None,
) -> SAE:
    d_in, d_sae = int(config["d_in"]), int(config["d_sae"])
    trained_as = metadata.get("training_architecture")
    details = metadata.get("training_architecture_details") or {}
    sae: SAE
    if kind == "topk":
        sae = TopKSAE(d_in, d_sae, int(config["k"]), address=address)
    elif kind == "batchtopk":
        cut = tensors.pop("topk_threshold")
        tensors["threshold"] = torch.full((d_sae,), float(cut))
        sae = BatchTopKSAE(d_in, d_sae, round(float(config["k"])), address=address)
    elif kind == "jumprelu" and trained_as == "batchtopk" and "k" in details:
        sae = BatchTopKSAE(d_in, d_sae, round(float(details["k"])), address=address)
    elif kind in ("jumprelu", "standard"):
        sae = JumpReLUSAE(d_in, d_sae, address=address)
        if kind == "standard":
            tensors["threshold"] = torch.zeros(d_sae)
        elif "log_threshold" in tensors:
            tensors["threshold"] = tensors.pop("log_threshold").exp()
    elif kind == "gated":
        sae = GatedSAE(d_in, d_sae, address=address)
    else:
        raise InterpretOpsError(
            f"a SAELens dictionary of architecture {kind!r} cannot be read",
            fix="use one of architecture topk, batchtopk, jumprelu, gated or standard",
        )
    if config.get("rescale_acts_by_decoder_norm", kind == "batchtopk"):
        norms = tensors["W_dec"].norm(dim=1).clamp(min=1e-8)
        tensors["W_dec"] = tensors["W_dec"] / norms.unsqueeze(1)
        tensors["W_enc"] = tensors["W_enc"] * norms
        tensors["b_enc"] = tensors["b_enc"] * norms
    if not config.get("apply_b_dec_to_input", True):
        # We always subtract b_dec; adding what that takes away leaves pre-activations as they are.
        shift = tensors["b_dec"] @ tensors["W_enc"]
        if kind == "gated":
            tensors["b_gate"] = tensors["b_gate"] + shift
            tensors["b_mag"] = tensors["b_mag"] + shift * tensors["r_mag"].exp()
        else:
            tensors["b_enc"] = tensors["b_enc"] + shift
    own = {name for name, _ in sae.named_parameters()}
    if isinstance(sae, BatchTopKSAE):
        own.add("threshold")
    if missing := own - tensors.keys():
        raise KeyError(f"{', '.join(sorted(missing))} missing")
    sae.load_state_dict({name: tensors[name] for name in own}, strict=False)
    return sae


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        tensors = {name: t.float() for name, t in load_file(folder / WEIGHTS).items()}
    except FileNotFoundError as error:
        raise InterpretOpsError(
            f"{folder} is no SAELens dictionary: {Path(error.filename or CONFIG).name} is missing",
            fix=f"give the folder that holds {CONFIG} and {WEIGHTS}",
        ) from error
    except (SafetensorError, ValueError, OSError) as error:
        raise InterpretOpsError(
            f"{folder} holds a damaged SAELens dictionary ({error})",
            fix="copy or download it again",
        ) from error
    if not isinstance(config, dict) or not {"d_in", "d_sae"} <= config.keys():
        raise InterpretOpsError(
            f"{folder / CONFIG} does not say d_in and d_sae", fix="copy or download it again"
        )
    return config, tensors


def _current(config: dict[str, Any]) -> dict[str, Any]:
    """A config as version 6 writes it; before, everything lay flat and names differed."""
    if "metadata" in config:
        return config
    old = dict(config)
    activation = old.get("activation_fn_str", old.get("activation_fn", "relu"))
    old.setdefault("architecture", "standard")
    if activation == "topk":
        old["architecture"] = "topk"
        old["k"] = (old.get("activation_fn_kwargs") or {}).get("k")
    normalisation = old.get("normalize_activations", "none")
    if isinstance(normalisation, bool):
        old["normalize_activations"] = "expected_average_only_in" if normalisation else "none"
    old["metadata"] = {
        "hook_name": old.get("hook_name", old.get("hook_point")),
        "model_name": old.get("model_name"),
    }
    return old


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the layout safetensors stores, in name order so that bytes are reproducible."""
    return {name: tensors[name].detach().float().cpu().contiguous() for name in sorted(tensors)}


def _own_version() -> str:
    try:
        return version("interpretops")
    except PackageNotFoundError:
        return "unknown"
