"""What a handler works with, and the handler that every kind of job shares."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from interpretops.artifacts import Handle
from interpretops.config import RuntimeConfig
from interpretops.prompts import Redactor
from interpretops_platform.artifacts import register
from interpretops_platform.errors import PlatformError
from interpretops_platform.jobs.worker import HandBackError, JobContext, JobResult
from interpretops_platform.security.uris import UriGuard
from interpretops_platform.tenants import TenantStores
from pydantic import BaseModel

from interpretops_service.engine.checkpoints import Checkpoints
from interpretops_service.engine.models import load_model
from interpretops_service.engine.monitor import JobMonitor
from interpretops_service.engine.prompts import fetched_file, load_prompts, load_texts
from interpretops_service.engine.specs import to_spec
from interpretops_service.engine.store import PlatformStore
from interpretops_service.references import require_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from interpretops.models import HookedModel
    from interpretops.progress import Monitor
    from interpretops.prompts import PromptSet
    from interpretops_platform.settings import Settings
    from interpretops_protos.v1.artifact_pb2 import ArtifactRef
    from interpretops_protos.v1.model_pb2 import ModelSpec
    from interpretops_protos.v1.prompt_pb2 import PromptSource
    from sqlalchemy.ext.asyncio import AsyncSession

R = TypeVar("R", bound=Message)
S = TypeVar("S", bound=BaseModel)
H = TypeVar("H", bound=Handle)


class OutOfMemoryError(PlatformError):
    """The work does not fit into memory, however small its batches."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"the work does not fit into the memory of {where}",
            fix="ask for smaller batches, shorter prompts or a less precise model, or use a larger machine",
        )


@dataclass(frozen=True)
class Bench:
    """What a handler works with; `store` and `monitor` go into the engine's functions.

    Attributes:
        settings: Of the installation.
        store: The tenant's artifacts.
        monitor: Reports progress, and stops the work when it has to.
    """

    settings: Settings
    store: PlatformStore
    monitor: Monitor

    @cached_property
    def runtime(self) -> RuntimeConfig:
        """What steering may cost here."""
        return RuntimeConfig.model_validate(self.settings.runtime)

    @property
    def redactor(self) -> Redactor | None:
        """What scrubs personal information, where the settings ask for it."""
        return _redactor() if self.settings.compliance.pii_redaction else None

    @property
    def redacted(self) -> tuple[str, ...] | None:
        """The kinds of personal information it looks for, for the record of what is made."""
        return None if self.redactor is None else tuple(k.value for k in self.redactor.kinds)

    def model(self, spec: ModelSpec) -> HookedModel:
        """The model that a request names; it is kept for the next job."""
        self.monitor.update("loading the model", 0, 1)
        model = load_model(spec, self.settings)
        self.monitor.update("loading the model", 1, 1)
        return model

    def prompts(self, source: PromptSource, path: str = "prompts") -> PromptSet:
        """The prompts of a source of the request, scrubbed where the settings ask for it."""
        return load_prompts(source, self.settings, self.redactor, path=path)

    def spec(self, kind: type[S], message: Message, path: str = "spec", **unset: Any) -> S:
        """The engine's spec that a message of the request says; see `to_spec`."""
        return to_spec(kind, message, path=path, **unset)

    def open(self, kind: type[H], ref: ArtifactRef) -> H:
        """An artifact that the request names, fetched if need be."""
        return kind.open(self.store, ref.id)

    def texts(self, uri: str) -> list[str]:
        """The documents at an address of the request, as they are: whoever takes them scrubs them."""
        return load_texts(uri, self.settings)

    def file(self, uri: str) -> Path | str:
        """A file of this machine with what is at an address of the request."""
        return fetched_file(uri, self.settings)

    def require_allowed(self, message: Message) -> None:
        """Go on only if callers may name all that a message names; see `references`.

        Raises:
            RequestError: When they may not.
        """
        guard = UriGuard(self.settings.security.uris)
        asyncio.run(require_allowed(message, guard))


@dataclass(frozen=True)
class EngineHandler(Generic[R]):
    """A handler factory around one function of the engine.

    Attributes:
        request: The `Submit...Request` that jobs of this kind were accepted by.
        make: Makes the artifact, with what the bench gives.
    """

    request: type[R]
    make: Callable[[Bench, R], Handle]

    def __call__(self, settings: Settings) -> Callable[[JobContext], JobResult]:
        """The handler, for this installation."""
        stores = TenantStores(settings)

        def handle(context: JobContext) -> JobResult:
            return self._run(context, settings, stores)

        return handle

    def _run(self, context: JobContext, settings: Settings, stores: TenantStores) -> JobResult:
        request = ParseDict(context.spec, self.request())
        with _opened(context, settings, stores) as bench:
            # Again, because this machine is the one that reads; settings and files may have changed.
            bench.require_allowed(request)
            made = self.make(bench, request)
            context.update("storing the result", 0, 1)
            uploads = bench.store.upload(made.id)
            context.update("storing the result", 1, 1)

        async def accept(session: AsyncSession) -> None:
            for uploaded in uploads:
                await register(
                    session, context.tenant_id, uploaded, retention=settings.compliance.retention
                )

        return JobResult(made.id, accept)


@contextmanager
def _opened(context: JobContext, settings: Settings, stores: TenantStores) -> Iterator[Bench]:
    """A bench for one attempt, with what an earlier one left."""
    _clear_earlier_attempts(context.folder)
    objects = context.in_session(stores.open)
    kept = settings.cache.dir / "tenants" / str(context.tenant_id)
    if objects.sealed:
        kept = context.folder / "kept"  # goes with the attempt: no plain copy outlives the key
    store = PlatformStore(context.folder, kept, objects=objects, in_session=context.in_session)
    checkpoints = Checkpoints(
        context.folder / "drafts",
        objects=objects,
        announce=context.save_checkpoint,
        every_seconds=settings.jobs.checkpoint_seconds,
    )
    if context.checkpoint_uri is not None:
        checkpoints.restore(context.checkpoint_uri)
    monitor = JobMonitor(context, checkpoints)
    with store.in_use(retention_days=settings.compliance.retention_days):
        try:
            yield Bench(settings, store, monitor)
        except HandBackError:
            checkpoints.save()
            raise
        except torch.OutOfMemoryError:
            raise OutOfMemoryError("the accelerator") from None
        except MemoryError:
            raise OutOfMemoryError("this machine") from None
        finally:
            monitor.close()


def _clear_earlier_attempts(folder: Path) -> None:
    """Remove what attempts at this job left on this machine that were killed or are fenced off."""
    for earlier in folder.parent.glob("*"):
        if earlier != folder:
            shutil.rmtree(earlier, ignore_errors=True)


@lru_cache(maxsize=1)
def _redactor() -> Redactor:
    return Redactor()
