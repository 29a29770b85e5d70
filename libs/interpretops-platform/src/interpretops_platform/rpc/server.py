"""A gRPC server with what every service needs: health, guard, limits, certificates, a calm end."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import OVERALL_HEALTH
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from interpretops_platform.errors import SettingsError
from interpretops_platform.rpc.guard import CallGuard, CallMetrics
from interpretops_platform.rpc.identity import IdentityTokens
from interpretops_platform.rpc.problems import PLATFORM_CODES
from interpretops_platform.rpc.tls import CertificateFiles, server_credentials
from interpretops_platform.rpc.validation import require_compiled
from interpretops_platform.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

    from interpretops_platform.rpc.settings import GrpcSettings
    from interpretops_platform.security.principal import Scope

logger = logging.getLogger(__name__)

LIVENESS = "liveness"
"""Health of the process itself: serving until it stops, whether or not it is ready."""

_MAX_METADATA_BYTES = 32 * 2**10


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a contract, and who serves it.

    Args:
        descriptor: `..._pb2.DESCRIPTOR.services_by_name[...]`.
        register: The generated `add_...Servicer_to_server`.
        servicer: An object with the methods, all `async`.
        scopes: From each method's name to the scope it asks of its caller.

    Raises:
        ValueError: When a method has no scope, a scope no method, or a method streams requests.
    """

    descriptor: ServiceDescriptor
    register: Callable[[Any, grpc.aio.Server], None]
    servicer: object
    scopes: Mapping[str, Scope]

    def __post_init__(self) -> None:
        methods = {method.name for method in self.descriptor.methods}
        if methods != self.scopes.keys():
            raise ValueError(
                f"{self.descriptor.full_name}: these methods and scopes do not match: "
                f"{', '.join(sorted(methods ^ self.scopes.keys()))}"
            )
        if any(method.client_streaming for method in self.descriptor.methods):
            raise ValueError(f"{self.descriptor.full_name}: requests that stream are not guarded")


class RpcServer:
    """Serves services until it is stopped. An async context manager.

    Args:
        services: What is served.
        settings: Where and within which limits.
        identity: Checks for whom calls are made; by default with the keys of the settings.
        codes: From exceptions of the services to status codes, beside those of the platform.
        ready: Asked every `readiness_seconds`; until it first says so, and whenever it does not or
            fails, health says NOT_SERVING. Without it the server is ready once it listens.
        metrics: Where calls are counted.
        stopping: Set when the server begins to stop; streams that wait for events end on it.

    Raises:
        SettingsError: When the keys or certificates are missing or unusable.
    """

    def __init__(
        self,
        services: Sequence[Service],
        settings: GrpcSettings,
        *,
        identity: IdentityTokens | None = None,
        codes: Mapping[type[BaseException], grpc.StatusCode] | None = None,
        ready: Callable[[], Awaitable[bool]] | None = None,
        metrics: Metrics | None = None,
        stopping: asyncio.Event | None = None,
    ) -> None:
        self._settings = settings
        self._ready = ready
        self._names = [service.descriptor.full_name for service in services]
        methods = [
            (service, method) for service in services for method in service.descriptor.methods
        ]
        for _, method in methods:
            require_compiled(method.input_type)
        guard = CallGuard(
            {_path(method): service.scopes[method.name] for service, method in methods},
            [_path(method) for _, method in methods if method.server_streaming],
            identity_tokens(settings) if identity is None else identity,
            settings,
            {**PLATFORM_CODES, **(codes or {})},
            CallMetrics(metrics or Metrics(), [_path(method) for _, method in methods]),
        )
        self._server = grpc.aio.server(
            interceptors=[guard],
            options=_options(settings),
            maximum_concurrent_rpcs=settings.max_concurrent_calls,
        )
        for service in services:
            service.register(service.servicer, self._server)
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if not settings.production:
            shown = (*self._names, HEALTH_SERVICE, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(shown, self._server)
        self._probes: grpc.aio.Server | None = None
        if settings.health_port is not None:
            self._probes = grpc.aio.server(options=_options(settings))
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probes)
        self._port = 0
        self._health_port = 0
        self._watcher: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event() if stopping is None else stopping

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    @property
    def health_port(self) -> int:
        """The port that answers health checks in the clear, once started; 0 where there is none."""
        return self._health_port

    async def start(self) -> None:
        """Listen.

        Raises:
            SettingsError: When the address cannot be had.
        """
        settings = self._settings
        address = f"{settings.host}:{settings.port}"
        try:
            if settings.tls is None:
                self._port = self._server.add_insecure_port(address)
            else:
                credentials = server_credentials(CertificateFiles(settings.tls))
                self._port = self._server.add_secure_port(address, credentials)
            if self._probes is not None:
                address = f"{settings.host}:{settings.health_port}"
                self._health_port = self._probes.add_insecure_port(address)
        except RuntimeError:
            raise SettingsError(
                f"cannot listen on {address}",
                fix="set grpc.host, grpc.port and grpc.health_port to free addresses",
            ) from None
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._set_ready(ready=False)
        await self._server.start()
        if self._probes is not None:
            await self._probes.start()
        logger.info("listening", extra={"address": f"{settings.host}:{self._port}"})
        if self._ready is None:
            await self._set_ready(ready=True)
        else:
            self._watcher = asyncio.create_task(self._watch(self._ready))

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Say that it is not ready, refuse new calls, let those in flight end, cancel what is left.

        A second call while the first one waits makes it shorter.

        Args:
            grace_seconds: How long calls in flight may go on; by default as the settings say.
        """
        again = self.stopping.is_set()
        self.stopping.set()
        if not again:
            logger.info("stopping")
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        if not again:
            await asyncio.sleep(self._settings.lame_duck_seconds)
        grace = self._settings.grace_seconds if grace_seconds is None else grace_seconds
        await self._server.stop(grace)
        if self._probes is not None:
            await self._probes.stop(0)
        logger.info("stopped")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _watch(self, ready: Callable[[], Awaitable[bool]]) -> None:
        was: bool | None = None
        while True:
            try:
                async with asyncio.timeout(self._settings.readiness_seconds):
                    now = await ready()
            except Exception as error:
                if was is not False:
                    logger.warning("readiness could not be found out", exc_info=error)
                now = False
            if now != was:
                logger.info("ready" if now else "not ready")
                await self._set_ready(ready=now)
            was = now
            await asyncio.sleep(self._settings.readiness_seconds)

    async def _set_ready(self, *, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in (OVERALL_HEALTH, *self._names):
            await self._health.set(name, status.SERVING if ready else status.NOT_SERVING)


async def serve(
    services: Sequence[Service],
    settings: GrpcSettings,
    *,
    codes: Mapping[type[BaseException], grpc.StatusCode] | None = None,
    ready: Callable[[], Awaitable[bool]] | None = None,
    metrics: Metrics | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second signal does not wait for calls in flight.

    Args:
        services: What is served.
        settings: Where and within which limits.
        codes: From exceptions of the services to status codes.
        ready: Whether the service can do its work now.
        metrics: Where calls are counted.
        stopping: Set when the server begins to stop.

    Raises:
        SettingsError: When the address, the keys or the certificates cannot be used.
    """
    loop = asyncio.get_running_loop()
    asked, insisted = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (insisted if asked.is_set() else asked).set()

    server = RpcServer(
        services, settings, codes=codes, ready=ready, metrics=metrics, stopping=stopping
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await server.start()
        await asked.wait()
        calm = asyncio.create_task(server.stop())
        hurry = asyncio.create_task(insisted.wait())
        await asyncio.wait((calm, hurry), return_when=asyncio.FIRST_COMPLETED)
        if not calm.done():
            await server.stop(grace_seconds=0)
            calm.cancel()
        hurry.cancel()
        await asyncio.gather(calm, hurry, return_exceptions=True)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def identity_tokens(settings: GrpcSettings) -> IdentityTokens:
    """Makes and checks identities with the keys of the settings.

    Raises:
        SettingsError: When no keys are configured or their file is unusable.
    """
    if settings.identity_keys is None:
        raise SettingsError(
            "services cannot tell for whom a call is made",
            fix="set grpc.identity_keys to a file of keys that edge and services share",
        )
    return IdentityTokens.from_file(
        settings.identity_keys, lifetime_seconds=settings.identity_seconds
    )


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _options(settings: GrpcSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", round(settings.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(settings.keepalive_timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Half of what our channels do, so that none of them is taken for a flood.
        ("grpc.http2.min_ping_interval_without_data_ms", round(settings.keepalive_seconds * 500)),
        ("grpc.max_connection_age_ms", round(settings.connection_age_seconds * 1000)),
        # Streams that run are not cut by the renewal of their connection.
        ("grpc.max_connection_age_grace_ms", round(settings.max_stream_seconds * 1000)),
        # Two servers on one port would share its calls in silence.
        ("grpc.so_reuseport", 0),
    ]
