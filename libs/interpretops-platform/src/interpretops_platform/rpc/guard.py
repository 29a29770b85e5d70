"""What happens around every served call, in one place, so that no method can leave a step out.

From the outside in: trace, errors to statuses, deadline, identity, scope, validation, the method.
"""

from __future__ import annotations

import inspect
import time
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError, Message
from opentelemetry.trace import SpanKind, StatusCode

from interpretops_platform.rpc.call import acting_as, ending_within
from interpretops_platform.rpc.identity import IDENTITY_HEADER
from interpretops_platform.rpc.problems import DETAILS_HEADER, CallError, status_of
from interpretops_platform.rpc.validation import require_valid
from interpretops_platform.security.principal import UnauthenticatedError
from interpretops_platform.telemetry.logs import bound
from interpretops_platform.telemetry.traces import from_headers, tracer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from opentelemetry.trace import Span

    from interpretops_platform.rpc.identity import IdentityTokens
    from interpretops_platform.rpc.settings import GrpcSettings
    from interpretops_platform.security.principal import Principal, Scope
    from interpretops_platform.telemetry.metrics import Metrics

    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """Stands for a request whose bytes are not of its type."""


class CallMetrics:
    """Counts and times served calls.

    Args:
        metrics: Where they are declared, once per server.
        methods: Full names of all methods, such as `/interpretops.v1.JobService/GetJob`.
    """

    def __init__(self, metrics: Metrics, methods: list[str]) -> None:
        self._handled = metrics.counter(
            "rpc_server_handled_total",
            "Calls that ended, by method and status code.",
            {"method": methods, "code": [code.name for code in grpc.StatusCode]},
        )
        self._duration = metrics.histogram(
            "rpc_server_duration_seconds",
            "Time from the first byte of a call to its status.",
            {"method": methods},
        )

        self._in_flight = metrics.gauge(
            "rpc_server_in_flight_count", "Calls that are being served.", {"method": methods}
        )

    def began(self, method: str) -> None:
        """A call has begun."""
        self._in_flight.labels(method=method).inc()

    def ended(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """A call has ended."""
        self._in_flight.labels(method=method).dec()
        self._handled.labels(method=method, code=code.name).inc()
        self._duration.labels(method=method).observe(seconds)


class CallGuard(grpc.aio.ServerInterceptor):
    """Guards the methods of contracts; health and reflection, which are not ours, pass as they are.

    Args:
        scopes: The scope that each guarded method asks of its caller.
        streams: Those of them that answer with a stream.
        identity: Checks for whom a call is made.
        settings: The furthest deadlines.
        codes: From exceptions to status codes.
        metrics: Where calls are counted.
    """

    def __init__(
        self,
        scopes: Mapping[str, Scope],
        streams: Collection[str],
        identity: IdentityTokens,
        settings: GrpcSettings,
        codes: Mapping[type[BaseException], grpc.StatusCode],
        metrics: CallMetrics,
    ) -> None:
        self._scopes = scopes
        self._streams = frozenset(streams)
        self._identity = identity
        self._settings = settings
        self._codes = codes
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method with everything around it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method not in self._scopes:
            return handler
        decode = _tolerant(handler.request_deserializer)
        encode = handler.response_serializer
        headers = _texts(handler_call_details.invocation_metadata)
        if handler.response_streaming:
            behaviour: Any = handler.unary_stream

            async def stream(request: object, context: Context) -> None:
                async def run() -> None:
                    if not inspect.isasyncgenfunction(behaviour):
                        await behaviour(request, context)
                        return
                    async with aclosing(behaviour(request, context)) as answers:
                        async for answer in answers:
                            await context.write(answer)

                await self._around(method, headers, request, context, run)

            return grpc.unary_stream_rpc_method_handler(stream, decode, encode)
        single: Any = handler.unary_unary

        async def unary(request: object, context: Context) -> Any:
            return await self._around(
                method, headers, request, context, lambda: single(request, context)
            )

        return grpc.unary_unary_rpc_method_handler(unary, decode, encode)

    async def _around(
        self,
        method: str,
        headers: Mapping[str, str],
        request: object,
        context: Context,
        run: Callable[[], Awaitable[Any]],
    ) -> Any:
        began = time.perf_counter()
        self._metrics.began(method)
        code = grpc.StatusCode.CANCELLED  # what a call is that ends below by neither path
        service, _, name = method[1:].partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        with tracer().start_as_current_span(
            method[1:],
            from_headers(headers),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # an exception's text may hold what a span must not
            set_status_on_exception=False,
        ) as span:
            try:
                with ExitStack() as stack:
                    stack.enter_context(bound(rpc_method=method))
                    self._require_deadline(method, context, stack)
                    principal = self._identify(headers)
                    stack.enter_context(acting_as(principal))
                    principal.require(self._scopes[method])
                    if not isinstance(request, Message):
                        raise CallError(
                            "the request is not a message of this method's type",
                            fix="use the contract of this service",
                            code=grpc.StatusCode.INVALID_ARGUMENT,
                        )
                    require_valid(request)
                    answer = await run()
                code = _status_code(context.code() or 0)  # none is OK
                return answer
            except grpc.aio.AbortError:
                code = _status_code(context.code() or 0)
                raise
            except Exception as error:
                status = status_of(error, self._codes)
                code = _status_code(status.code)
                await context.abort(
                    code, status.message, ((DETAILS_HEADER, status.SerializeToString()),)
                )
            finally:
                _finish(span, code)
                self._metrics.ended(method, code, time.perf_counter() - began)

    def _require_deadline(self, method: str, context: Context, stack: ExitStack) -> None:
        streaming = method in self._streams
        longest = (
            self._settings.max_stream_seconds if streaming else self._settings.max_unary_seconds
        )
        left: float | None = context.time_remaining()
        # On the wire a deadline is rounded up to three digits.
        if left is None or left > longest * 1.01 + 1:
            raise CallError(
                "the call has no deadline" if left is None else "the call's deadline is too far",
                fix=f"set a deadline of at most {longest:g} seconds",
                code=grpc.StatusCode.INVALID_ARGUMENT,
            )
        stack.enter_context(ending_within(min(left, longest)))

    def _identify(self, headers: Mapping[str, str]) -> Principal:
        token = headers.get(IDENTITY_HEADER)
        if token is None:
            raise UnauthenticatedError(
                "the call does not say for whom it is made", fix="call through the edge"
            )
        return self._identity.verify(token)


def _finish(span: Span, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    # Only these are the server's own failures; a refused request is a success of its guard.
    if code in (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    ):
        span.set_status(StatusCode.ERROR)


def _status_code(said: Any) -> grpc.StatusCode:
    # A context gives what it was given: a number or the constant.
    return next(code for code in grpc.StatusCode if said in (code, code.value[0]))


def _tolerant(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    # Left to itself, gRPC answers bytes that do not parse with the parser's exception.
    if decode is None:
        raise TypeError("methods of contracts have messages")
    parse = decode

    def tolerant(data: bytes) -> object:
        try:
            return parse(data)
        except DecodeError:
            return _Undecodable()

    return tolerant


def _texts(metadata: Any) -> dict[str, str]:
    # A header given twice says two things; neither is believed.
    found: dict[str, str] = {}
    twice: set[str] = set()
    for key, value in metadata or ():
        if isinstance(value, str):
            twice |= {key} & found.keys()
            found[key] = value
    return {key: value for key, value in found.items() if key not in twice}
