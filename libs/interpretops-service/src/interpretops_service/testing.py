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
from uuid import uuid4

import grpc
import pytest_asyncio
import yaml
from interpretops_platform.artifacts import find
from interpretops_platform.database.engine import Database
from interpretops_platform.database.models import Artifact
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.broker import CeleryBroker, create_celery
from interpretops_platform.jobs.keeper import keep_jobs_moving
from interpretops_platform.jobs.states import JobState
from interpretops_platform.jobs.watch import get_job
from interpretops_platform.rpc.call import acting_as
from interpretops_platform.rpc.client import Channels
from interpretops_platform.rpc.problems import Problem, problem_of
from interpretops_platform.rpc.server import RpcServer, identity_tokens
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.principal import Principal, Role
from interpretops_platform.settings import CacheSettings, ObjectsSettings
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.testing import add_tenant
from pydantic import BaseModel, SecretStr
from ulid import ULID

from interpretops_service.registry import service_factory
from interpretops_service.serving import KIT_CODES, ServiceKit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from interpretops_platform.database.models import Job
    from interpretops_platform.settings import Settings

PATIENCE = 300.0
"""Seconds after which something that should happen is said never to happen."""

Stub = TypeVar("Stub")


class Program:
    """A program and its children, as `python -m MODULE` starts them.

    Args:
        arguments: `serve NAME` or `work KIND...`, where it is one of the kit.
        settings: Of the installation; their cache is the machine that the program stands for.
        folder: Where its settings and its log are written.
        module: The program.
    """

    def __init__(
        self,
        arguments: tuple[str, ...],
        settings: Settings,
        folder: Path,
        *,
        module: str = "interpretops_service",
    ) -> None:
        folder.mkdir(parents=True)
        config = folder / "config.yaml"
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump(_revealed(settings)), encoding="utf-8")
        self.log = folder / "log"
        program = (sys.executable, "-m", module, *arguments)
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*program, "--config", str(config)],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, such as that it answers.

        Raises:
            TimeoutError: When it never does, or the program has ended; with the end of its log.
        """
        deadline = time.monotonic() + PATIENCE
        while not await asyncio.to_thread(holds):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"a program ended or hangs:\n{self.log.read_text()[-4000:]}")
            await asyncio.sleep(0.2)

    def kill(self) -> None:
        """Kill parent and children at once, as a lost machine does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    async def terminate(self) -> int:
        """Ask it to stop, as a deployment does; gives its exit status."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, PATIENCE)


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
        create_key_file(keys)
        self.folder = folder
        self.settings = settings.model_copy(
            update={
                # Loading the engine may hold everything else up for seconds.
                "jobs": settings.jobs.model_copy(
                    update={"lease_seconds": 10, "heartbeat_seconds": 2}
                ),
                "grpc": GrpcSettings(port=0, identity_keys=keys),
                "cache": CacheSettings(dir=folder / "cache"),
                "objects": ObjectsSettings(folder=folder / "objects"),
            }
        )
        self.identity = identity_tokens(self.settings.grpc)
        self._programs: list[Program] = []
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
            for program in self._programs:
                program.kill()

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
            Channels(grpc_settings, identity=self.identity, idempotent=()) as channels,
        ):
            yield lambda make: channels.stub(make, f"127.0.0.1:{server.port}")

    def change(self, **sections: Any) -> None:
        """Change sections of the settings; what was started before keeps its own."""
        self.settings = self.settings.model_copy(update=sections)

    def acting(self, caller: Principal | None = None) -> Any:
        """Calls made inside are for a caller; by default for the tenant's operator."""
        return acting_as(self.caller if caller is None else caller)

    async def another_tenant(self) -> Principal:
        """An operator of a tenant whose data must stay apart."""
        tenant_id = await add_tenant(self.database, f"theirs-{uuid4().hex[:6]}")
        return Principal.of(tenant_id, "key:theirs", [Role.OPERATOR])

    def worker(self, *kinds: str, machine: str = "one", **changes: Any) -> Program:
        """Start a worker on a machine of this name, whose cache other machines do not see."""
        return self.program("work", *kinds, machine=machine, **changes)

    def program(
        self,
        *arguments: str,
        machine: str = "one",
        module: str = "interpretops_service",
        **changes: Any,
    ) -> Program:
        """Start a program, by default of the kit, on a machine, with changes of the settings."""
        folder = self.folder / machine
        cache = CacheSettings(dir=folder / "cache")
        settings = self.settings.model_copy(update={"cache": cache, **changes})
        program = Program(
            arguments, settings, folder / f"program-{len(self._programs)}", module=module
        )
        self._programs.append(program)
        return program

    async def job(self, job_id: str, tenant_id: UUID | None = None) -> Job:
        """A job of a tenant, by default of the first one, as it is now."""
        async with tenant_session(self.database, tenant_id or self.tenant_id) as session:
            return await get_job(session, job_id)

    async def until(
        self, job_id: str, holds: Callable[[Job], bool], tenant_id: UUID | None = None
    ) -> Job:
        """The job of a tenant, by default of the first one, once something holds of it.

        Raises:
            TimeoutError: When it never does, or a worker has ended meanwhile.
        """
        deadline = time.monotonic() + PATIENCE
        while not holds(job := await self.job(job_id, tenant_id)):
            if JobState(job.state).final or time.monotonic() > deadline:
                logs = "\n".join(program.log.read_text()[-4000:] for program in self._programs)
                raise TimeoutError(f"{job_id} is {job.state}: {job.error}\n{logs}")
            await asyncio.sleep(0.1)
        return job

    async def succeeded(self, job_id: str, tenant_id: UUID | None = None) -> Job:
        """The job once it has succeeded."""
        return await self.until(job_id, lambda job: job.state == JobState.SUCCEEDED, tenant_id)

    async def manifest(self, job: Job) -> dict[str, Any]:
        """The manifest of what a job made."""
        async with tenant_session(self.database, job.tenant_id) as session:
            return (await find(session, str(job.result_artifact_id))).manifest

    async def keep(self, kind: str, tenant_id: UUID | None = None) -> str:
        """Register an artifact of a kind, of which there is nothing but its row; gives its id."""
        prefix = {"risk_card": "rc", "trace": "tr", "dictionary": "sae", "circuit": "cx"}
        artifact_id = f"{prefix.get(kind, kind[:3])}_{ULID()}"
        async with tenant_session(self.database, tenant_id or self.tenant_id) as session:
            session.add(
                Artifact(
                    tenant_id=tenant_id or self.tenant_id,
                    id=artifact_id,
                    kind=kind,
                    schema_version=1,
                    sha256="a" * 64,
                    spec_hash="b" * 64,
                    manifest={},
                    object_uri="file:///nowhere",
                    size=7,
                )
            )
        return artifact_id


@pytest_asyncio.fixture
async def installation(broker_settings: Settings, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation with an empty database and an empty broker."""
    async with Installation(broker_settings, tmp_path) as made:
        yield made


async def refusal(call: Awaitable[object]) -> Problem:
    """Why a call is refused.

    Raises:
        AssertionError: When it is not.
    """
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return problem_of(error)
    raise AssertionError("the call was not refused")


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
