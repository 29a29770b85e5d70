"""Models that answer: loaded once, each with an engine of its own."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from interpretops.config import ModelConfig
from interpretops.models import HookedModel
from interpretops.serving import Limits, ServingEngine
from interpretops_platform.errors import NotFoundError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interpretops_platform.settings import Settings

    from interpretops_steering_gateway.metrics import ServingMetrics

logger = logging.getLogger(__name__)


class ModelInUseError(PlatformError):
    """Another model is loaded under this name."""


@dataclass(eq=False)
class ServedModel:
    """A model that answers.

    Attributes:
        name: The name that requests give.
        source: What was loaded, and how precisely.
        engine: What answers.
        loaded_at: Since when.
    """

    name: str
    source: tuple[str, str]
    engine: ServingEngine
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def model(self) -> HookedModel:
        """The model."""
        return self.engine.model


class Models:
    """The models of this process, by the names that requests give.

    Args:
        settings: Where models run, and how much each takes on.
        metrics: Where steps are counted.
    """

    def __init__(self, settings: Settings, metrics: ServingMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._served: dict[str, ServedModel] = {}
        self._loading: dict[str, asyncio.Lock] = {}
        self._draining: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._served.values()))

    def get(self, name: str) -> ServedModel:
        """A model that is loaded.

        Raises:
            NotFoundError: When there is none of that name.
        """
        served = self._served.get(name)
        if served is None:
            known = ", ".join(sorted(self._served)) or "none"
            raise NotFoundError(
                f"no model {name!r} is loaded here", fix=f"use one of those that are: {known}"
            )
        return served

    async def load(self, name: str, model: str, dtype: str | None = None) -> ServedModel:
        """Load a model, unless it is loaded already.

        Args:
            name: The name that requests are to give.
            model: As `HookedModel` takes it.
            dtype: How precisely it computes; None as the settings say.

        Raises:
            ModelInUseError: When another one is loaded under the name.
            InterpretOpsError: When it cannot be loaded, or rows of it cannot join a running batch.
        """
        configured = ModelConfig.model_validate(self._settings.model)
        source = model, dtype or configured.dtype
        async with self._loading.setdefault(name, asyncio.Lock()):
            served = self._served.get(name)
            if served is None:
                engine = await asyncio.to_thread(self._start, *source, configured.device)
                served = self._served[name] = ServedModel(name, source, engine)
                logger.info("model loaded", extra={"model": name})
            elif served.source != source:
                raise ModelInUseError(
                    f"{served.source[0]} ({served.source[1]}) is loaded under the name {name!r}",
                    fix="unload it first, or choose another name",
                )
            return served

    def unload(self, name: str) -> ServedModel | None:
        """Take a model out of use; what it has in hand it answers still."""
        served = self._served.pop(name, None)
        if served is not None:
            task = asyncio.create_task(asyncio.to_thread(served.engine.close, drain=True))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)
            logger.info("model unloaded", extra={"model": name})
        return served

    async def close(self) -> None:
        """Stop all of them; what they have in hand fails."""
        engines = [served.engine for served in self._served.values()]
        self._served.clear()
        await asyncio.gather(*(asyncio.to_thread(engine.close) for engine in engines))
        await asyncio.gather(*self._draining)

    def _start(self, name: str, dtype: str, device: str) -> ServingEngine:
        steering = self._settings.steering
        model = HookedModel(name, dtype=dtype, device=device, cache_dir=self._settings.cache.dir)
        model.ref  # noqa: B018 - hashes the weights now, and not while the first policy waits
        limits = Limits(
            max_rows=steering.max_rows,
            max_tokens=steering.max_tokens,
            max_waiting=steering.max_waiting,
            prefill_tokens=steering.prefill_tokens,
        )
        return ServingEngine(model, limits, observe=self._metrics.stepped)
