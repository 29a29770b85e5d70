"""An installation for tests: real servers, services in this process, workers as processes of their own.

A `conftest.py` imports `installation` beside the fixtures of `interpretops_platform.testing`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pytest_asyncio
import yaml
from interpretops_platform.database.engine import Database
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.broker import CeleryBroker, create_celery
from interpretops_platform.jobs.keeper import keep_jobs_moving
from interpretops_platform.jobs.states import JobState
from interpretops_platform.jobs.watch import get_job
from interpretops_platform.rpc.call import acting_as
from interpretops_platform.rpc.client import Channels
from interpretops_platform.rpc.identity import create_identity_keys
from interpretops_platform.rpc.server import RpcServer, identity_tokens
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.security.principal import Principal, Role
from interpretops_platform.settings import CacheSettings, ObjectsSettings
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.testing import add_tenant
from pydantic import BaseModel, SecretStr

from interpretops_service.registry import service_factory
from interpretops_service.serving import KIT_CODES, ServiceKit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    import grpc
    from interpretops_platform.database.models import Job
    from interpretops_platform.settings import Settings

PATIENCE = 300.0
"""Seconds after which something that should happen is said never to happen."""

Stub = TypeVar("Stub")


class WorkerProcess:
    """A worker and its child, as `python -m interpretops_service work` starts them.

    Args:
        kinds: What it works on.
        settings: Of the installation; its cache is the machine that the worker stands for.
        folder: Where its settings and its log are written.
    """

    def __init__(self, kinds: tuple[str, ...], settings: Settings, folder: Path) -> None:
        folder.mkdir(parents=True)
        config = folder / "config.yaml"
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump(_revealed(settings)), encoding="utf-8")
        self.log = folder / "log"
        program = (sys.executable, "-m", "interpretops_service", "work", *kinds)
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*program, "--config", str(config)],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill parent and child at once, as a lost machine does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        """Ask it to stop, as a deployment does; gives its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE)


class Installation:
    """Servers, a keeper, a tenant, and whatever services and workers a test starts.

    Args:
        settings: With a database and a broker.
        folder: For everything it writes.

    Attributes:
        settings: Completed.
        database: Pools of the test.
        tenant_id: A tenant.
        caller: An operator of that tenant.
    """

    database: Database
    tenant_id: UUID
    caller: Principal

    def __init__(self, settings: Settings, folder: Path) -> None:
        keys = folder / "identity.keys"
        create_identity_keys(keys)
        self.folder = folder
        self.settings = settings.model_copy(
            update={
                "grpc": GrpcSettings(port=0, identity_keys=keys),
                "cache": CacheSettings(dir=folder / "cache"),
                "objects": ObjectsSettings(folder=folder / "objects"),
            }
        )
        self._identity = identity_tokens(self.settings.grpc)
        self._workers: list[WorkerProcess] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.database = Database(self.settings, name="test")
        self._stack.push_async_callback(self.database.close)
        self.tenant_id = await add_tenant(self.database, "ours")
        self.caller = Principal.of(self.tenant_id, "key:tests", [Role.OPERATOR])
        stop = asyncio.Event()
        keeping = asyncio.create_task(
            keep_jobs_moving(
                self.database,
                CeleryBroker(create_celery(self.settings)),
                self.settings.jobs,
                stop,
            )
        )

        async def end() -> None:
            stop.set()
            await keeping
            for worker in self._workers:
                worker.kill()

        self._stack.push_async_callback(end)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def serving(
        self, name: str, make: Callable[[grpc.aio.Channel], Stub]
    ) -> AsyncIterator[Stub]:
        """Serve a service in this process, and give a stub of one of its contracts."""
        async with self.channel(name) as stub:
            yield stub(make)

    @asynccontextmanager
    async def channel(
        self, name: str
    ) -> AsyncIterator[Callable[[Callable[[grpc.aio.Channel], Any]], Any]]:
        """Serve a service in this process, and give what makes stubs of its contracts."""
        grpc_settings = self.settings.grpc
        kit = ServiceKit(self.settings, self.database, Metrics(), asyncio.Event())
        async with (
            service_factory(name)(kit) as serving,
            RpcServer(
                serving.services,
                grpc_settings,
                codes={**KIT_CODES, **serving.codes},
                ready=serving.ready,
                metrics=kit.metrics,
                stopping=kit.stopping,
            ) as server,
            Channels(grpc_settings, identity=self._identity, idempotent=()) as channels,
        ):
            yield lambda make: channels.stub(make, f"127.0.0.1:{server.port}")

    def acting(self) -> Any:
        """Calls made inside are for the tenant's operator."""
        return acting_as(self.caller)

    def worker(self, *kinds: str, machine: str = "one", **changes: Any) -> WorkerProcess:
        """Start a worker on a machine of this name, whose cache other machines do not see."""
        folder = self.folder / machine
        cache = CacheSettings(dir=folder / "cache")
        settings = self.settings.model_copy(update={"cache": cache, **changes})
        place = folder / f"worker-{len(self._workers)}"
        worker = WorkerProcess(kinds, settings, place)
        self._workers.append(worker)
        return worker

    async def job(self, job_id: str) -> Job:
        """A job of the tenant as it is now."""
        async with tenant_session(self.database, self.tenant_id) as session:
            return await get_job(session, job_id)

    async def until(self, job_id: str, holds: Callable[[Job], bool]) -> Job:
        """The job once something holds of it.

        Raises:
            TimeoutError: When it never does, or a worker has ended meanwhile.
        """
        deadline = time.monotonic() + PATIENCE
        while not holds(job := await self.job(job_id)):
            if JobState(job.state).final or time.monotonic() > deadline:
                logs = "\n".join(worker.log.read_text()[-4000:] for worker in self._workers)
                raise TimeoutError(f"{job_id} is {job.state}: {job.error}\n{logs}")
            await asyncio.sleep(0.1)
        return job

    async def succeeded(self, job_id: str) -> Job:
        """The job once it has succeeded."""
        return await self.until(job_id, lambda job: job.state == JobState.SUCCEEDED)


@pytest_asyncio.fixture
async def installation(broker_settings: Settings, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation with an empty database and an empty broker."""
    async with Installation(broker_settings, tmp_path) as made:
        yield made


def _revealed(settings: BaseModel) -> dict[str, Any]:
    """Settings as `config.yaml` holds them, secrets too."""

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return dict(items(value))
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value if isinstance(value, (dict, bool, int, float, type(None))) else str(value)

    def items(model: BaseModel) -> Iterator[tuple[str, Any]]:
        for name in type(model).model_fields:
            value = getattr(model, name)
            if value is not None:
                yield name, plain(value)

    return dict(items(settings))
