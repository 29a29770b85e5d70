"""`serve NAME`: one service's gRPC control server, from its settings to its calm end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc
from interpretops_platform.database.engine import Database
from interpretops_platform.errors import SettingsError
from interpretops_platform.rpc import server
from interpretops_platform.telemetry.logs import configure_logging
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.telemetry.traces import configure_tracing
from sqlalchemy import text

from interpretops_service.accelerator import show_accelerator
from interpretops_service.errors import MissingArtifactError
from interpretops_service.intake import Intake

if TYPE_CHECKING:
    from interpretops_platform.rpc.server import Service
    from interpretops_platform.rpc.settings import GrpcSettings
    from interpretops_platform.settings import Settings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceKit:
    """What a service is made with.

    Attributes:
        settings: Of the installation.
        database: Pools of this process.
        metrics: Where the service declares its own; calls are counted there too.
        stopping: Set when the server begins to stop.
    """

    settings: Settings
    database: Database
    metrics: Metrics
    stopping: asyncio.Event

    @property
    def intake(self) -> Intake:
        """Accepts jobs."""
        return Intake(self.database, self.settings)


@dataclass(frozen=True)
class Serving:
    """What a service serves.

    Attributes:
        services: Its services, `JobService` among them where it accepts jobs.
        ready: Whether it can do its work now, beside the database, which is asked for every service.
        codes: From its exceptions to status codes.
    """

    services: Sequence[Service]
    ready: Callable[[], Awaitable[bool]] | None = None
    codes: Mapping[type[BaseException], grpc.StatusCode] = field(default_factory=dict)


ServiceFactory = Callable[[ServiceKit], AbstractAsyncContextManager[Serving]]
"""Opens what a service needs, and closes it once the server has stopped."""

KIT_CODES: Mapping[type[BaseException], grpc.StatusCode] = {
    MissingArtifactError: grpc.StatusCode.NOT_FOUND,
}


async def serve(name: str, factory: ServiceFactory, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        name: Name of the service, such as `tracer`.
        factory: Makes it.
        settings: Where it listens, and everything else.

    Raises:
        SettingsError: When the installation is set up in a way that cannot work.
    """
    telemetry = settings.telemetry
    configure_logging(name, level=telemetry.log_level)
    traces = configure_tracing(name, telemetry)
    kit = ServiceKit(settings, Database(settings, name=name), Metrics.of_process(), asyncio.Event())
    show_accelerator(kit.metrics)
    exposition = None
    if telemetry.metrics_port is not None:
        exposition = kit.metrics.expose(telemetry.metrics_host, telemetry.metrics_port)
        _LOG.info("showing metrics", extra={"port": exposition.port})
    try:
        async with factory(kit) as serving:
            await server.serve(
                serving.services,
                listening(name, settings),
                codes={**KIT_CODES, **serving.codes},
                ready=_readiness(kit.database, serving),
                metrics=kit.metrics,
                stopping=kit.stopping,
            )
    finally:
        await kit.database.close()
        if exposition is not None:
            exposition.close()
        traces.shutdown()


def listening(name: str, settings: Settings) -> GrpcSettings:
    """Where a service listens: at `grpc.port`, else at the port of its address.

    Raises:
        SettingsError: When neither names a port.
    """
    if "port" in settings.grpc.model_fields_set:
        return settings.grpc
    address: str = getattr(settings.services, name)
    try:
        port = urlsplit(address if "://" in address else f"dns:///{address}").path.rpartition(":")
        return settings.grpc.model_copy(update={"port": int(port[2])})
    except ValueError:
        raise SettingsError(
            f"services.{name} names no port to listen on",
            fix="write it as dns:///host:port, or set grpc.port",
        ) from None


def _readiness(database: Database, serving: Serving) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        async with database.app() as session:
            await session.execute(text("SELECT 1"))
        return serving.ready is None or await serving.ready()

    return ready
