"""Channels to services: deadlines, retries of what may be repeated, identity and trace on each call."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
from google.protobuf.descriptor_pb2 import MethodOptions
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

from interpretops_platform.rpc.call import acting_principal, seconds_left
from interpretops_platform.rpc.identity import IDENTITY_HEADER
from interpretops_platform.rpc.tls import CertificateFiles
from interpretops_platform.telemetry.traces import to_headers, tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from types import TracebackType

    from google.protobuf.descriptor import ServiceDescriptor
    from opentelemetry.trace import Span

    from interpretops_platform.rpc.identity import IdentityTokens
    from interpretops_platform.rpc.settings import GrpcSettings
    from interpretops_platform.rpc.tls import Certificates

StubT = TypeVar("StubT")

_MAX_METADATA_BYTES = 32 * 2**10


def idempotent_methods(*services: ServiceDescriptor) -> frozenset[str]:
    """The methods that their contracts declare safe to repeat.

    Args:
        services: `..._pb2.DESCRIPTOR.services_by_name[...]`.

    Returns:
        Names such as `interpretops.v1.JobService/GetJob`.
    """
    return frozenset(
        f"{service.full_name}/{method.name}"
        for service in services
        for method in service.methods
        if method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    )


class Channels:
    """Channels of one process to the services it calls, one per address. An async context manager.

    Args:
        settings: Deadlines, limits, retries and certificates.
        identity: Signs for whom calls are made; without it calls are for nobody.
        idempotent: Methods that are called again when a service was UNAVAILABLE, as
            `idempotent_methods` gives them. No other call is ever made twice.

    Raises:
        SettingsError: When the certificates are unusable.
    """

    def __init__(
        self,
        settings: GrpcSettings,
        *,
        identity: IdentityTokens | None,
        idempotent: Iterable[str],
    ) -> None:
        self._files = None if settings.tls is None else CertificateFiles(settings.tls)
        self._settings = settings
        self._options = _options(settings, sorted(idempotent))
        self._interceptors = (_UnaryCalls(settings, identity), _StreamCalls(settings, identity))
        self._channels: dict[str, tuple[Certificates | None, grpc.aio.Channel]] = {}
        self._stubs: dict[tuple[Hashable, grpc.aio.Channel], Any] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def stub(self, make: Callable[[grpc.aio.Channel], StubT], target: str) -> StubT:
        """A stub on the channel to an address; ask for it anew for each use.

        When the certificate files have changed it is one on a new channel, and the old channel goes
        once its calls have ended.

        Args:
            make: The generated stub's class.
            target: Address, such as `dns:///tracer:50051`; all addresses behind a name are used in
                turn.
        """
        channel = self._channel(target)
        key = (make, channel)
        if key not in self._stubs:
            self._stubs[key] = make(channel)
        found: StubT = self._stubs[key]
        return found

    async def close(self) -> None:
        """Close all channels; calls on them end with CANCELLED."""
        channels = [channel for _, channel in self._channels.values()]
        self._channels.clear()
        self._stubs.clear()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(
            *(channel.close() for channel in channels), *self._closing, return_exceptions=True
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _channel(self, target: str) -> grpc.aio.Channel:
        certificates = None if self._files is None else self._files.current()
        held = self._channels.get(target)
        if held is not None and held[0] is certificates:
            return held[1]
        made = self._open(target, certificates)
        self._channels[target] = (certificates, made)
        if held is not None:
            self._retire(held[1])
        return made

    def _open(self, target: str, certificates: Certificates | None) -> grpc.aio.Channel:
        options = self._options
        if certificates is None:
            return grpc.aio.insecure_channel(
                target, options=options, interceptors=self._interceptors
            )
        return grpc.aio.secure_channel(
            target, certificates.channel(), options=options, interceptors=self._interceptors
        )

    def _retire(self, channel: grpc.aio.Channel) -> None:
        for key in [key for key in self._stubs if key[1] is channel]:
            del self._stubs[key]

        async def close() -> None:
            # By then the deadline of every call on it is over. A grace of the channel's own would
            # overlook streams that nobody reads at the moment.
            try:
                await asyncio.sleep(self._settings.max_stream_seconds)
            finally:
                await channel.close()

        closing = asyncio.get_running_loop().create_task(close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _Calls:
    """What both kinds of calls carry."""

    def __init__(self, settings: GrpcSettings, identity: IdentityTokens | None) -> None:
        self._settings = settings
        self._identity = identity

    def _details(
        self, details: grpc.aio.ClientCallDetails, default: float, span: Span
    ) -> grpc.aio.ClientCallDetails:
        timeout = default if details.timeout is None else details.timeout
        left = seconds_left()
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        for key, value in to_headers(set_span_in_context(span)).items():
            metadata.set_all(key, [value])
        principal = acting_principal()
        if self._identity is not None and principal is not None:
            metadata.set_all(IDENTITY_HEADER, [self._identity.sign(principal)])
        return grpc.aio.ClientCallDetails(
            details.method,
            timeout if left is None else min(timeout, left),
            metadata,
            details.credentials,
            details.wait_for_ready,
        )


def _span(method: str | bytes) -> Span:
    path = method.decode() if isinstance(method, bytes) else method
    service, _, name = path.lstrip("/").partition("/")
    return tracer().start_span(
        f"{service}/{name}",
        kind=SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
    )


class _UnaryCalls(_Calls, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        span = _span(client_call_details.method)
        try:
            call = await continuation(
                self._details(client_call_details, self._settings.default_unary_seconds, span),
                request,
            )
            try:
                code = await call.code()
            except asyncio.CancelledError:
                call.cancel()  # now, and not when the call happens to be collected
                raise
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            if code is not grpc.StatusCode.OK:
                span.set_status(StatusCode.ERROR)
            return call
        finally:
            span.end()


class _StreamCalls(_Calls, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        span = _span(client_call_details.method)
        try:
            call = await continuation(
                self._details(client_call_details, self._settings.default_stream_seconds, span),
                request,
            )
        except BaseException:
            span.end()
            raise
        call.add_done_callback(lambda _: span.end())
        return call


def _options(settings: GrpcSettings, idempotent: list[str]) -> list[tuple[str, int | str]]:
    return [
        ("grpc.service_config", json.dumps(_service_config(settings, idempotent))),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        # By default a channel that found nobody waits ever longer, up to two minutes, before it tries
        # again, and fails all calls meanwhile though the service has long been there.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", round(settings.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(settings.keepalive_timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Probing an idle connection is the point of it.
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _service_config(settings: GrpcSettings, idempotent: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # While most calls fail nothing is retried, so that retries do not keep a service down.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
    }
    if idempotent:
        names = [name.split("/") for name in idempotent]
        config["methodConfig"] = [
            {
                "name": [{"service": service, "method": method} for service, method in names],
                "retryPolicy": {
                    "maxAttempts": settings.retry_attempts,
                    "initialBackoff": f"{settings.retry_initial_seconds}s",
                    "maxBackoff": f"{settings.retry_max_seconds}s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    return config
