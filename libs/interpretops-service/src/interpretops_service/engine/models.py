"""Models that a worker keeps between jobs."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import torch
from interpretops.config import ModelConfig
from interpretops.models import HookedModel
from interpretops_protos.v1.model_pb2 import ModelDtype

from interpretops_service.errors import RequestError

if TYPE_CHECKING:
    from interpretops_platform.settings import Settings
    from interpretops_protos.v1.model_pb2 import ModelSpec


class ModelCache:
    """Keeps the model that was used last; one is what a GPU holds beside the work on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[str, ...] | None = None
        self._model: HookedModel | None = None

    def load(self, name: str, *, dtype: str, device: str, cache_dir: Path) -> HookedModel:
        """A model, loaded unless it was the last one.

        Args:
            name: As `HookedModel` takes it.
            dtype: `auto`, `float32`, `bfloat16` or `float16`.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            cache_dir: Where converted weights are kept.

        Raises:
            InterpretOpsError: When it cannot be loaded.
        """
        key = (name, dtype, device, str(cache_dir))
        with self._lock:
            if self._model is None or key != self._key:
                self._model = self._key = None  # the next one may need its room
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                self._model = HookedModel(name, dtype=dtype, device=device, cache_dir=cache_dir)
                self._key = key
            return self._model


MODELS = ModelCache()
"""Of this process."""


def load_model(spec: ModelSpec, settings: Settings, *, path: str = "model") -> HookedModel:
    """The model that a request names; callers have been checked to be allowed to name it.

    Args:
        spec: From the request.
        settings: Where models run and, where the request leaves it open, how precise they are.
        path: Field of the request.

    Raises:
        RequestError: When a hub id is also the name of a folder here, which it must not reach.
        InterpretOpsError: When the model cannot be loaded.
    """
    configured = ModelConfig.model_validate(settings.model)
    return MODELS.load(
        local_name(spec.name, path=f"{path}.name"),
        dtype=dtype_name(spec) or configured.dtype,
        device=configured.device,
        cache_dir=settings.cache.dir,
    )


def local_name(name: str, *, path: str) -> str:
    """A canonical name of a request as the engine takes it."""
    if name.startswith("file:"):
        return unquote(urlsplit(name).path)
    if ":" not in name and Path(name).exists():
        raise RequestError(
            f"there is no model {name} on the hub that may be used here",
            fix="give a hub id, a built-in model, or a folder as file:///folder",
            field=path,
        )
    return name


def dtype_name(spec: ModelSpec) -> str | None:
    """The precision that a request asks for, as the engine names it."""
    if spec.dtype == ModelDtype.MODEL_DTYPE_UNSPECIFIED:
        return None
    return ModelDtype.Name(spec.dtype).removeprefix("MODEL_DTYPE_").lower()
