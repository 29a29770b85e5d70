"""What happens around every request: id, trace, headers, metrics, one log line, and no traceback."""

from __future__ import annotations

import logging
import re
import time
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING

from interpretops_platform.telemetry.logs import bound
from interpretops_platform.telemetry.traces import continued
from opentelemetry.trace import SpanKind, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request

from interpretops_gateway.problems import answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interpretops_platform.telemetry.metrics import Metrics
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_PROBES = frozenset({"GET /healthz", "GET /readyz", "GET /metrics"})
_QUIET_PATHS = frozenset(probe.removeprefix("GET ") for probe in _PROBES)
_GONE = 499  # the client went away before it had an answer
_STRICT = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "strict-transport-security": "max-age=63072000; includeSubDomains",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}
_CLASSES = ("2xx", "3xx", "4xx", "5xx")
_UNKNOWN = "unknown"


class RequestMetrics:
    """Counts and times requests.

    Args:
        metrics: Where they are declared.
        routes: All routes, as `GET /jobs/{id}`.
    """

    def __init__(self, metrics: Metrics, routes: Iterable[str]) -> None:
        names = [*routes, _UNKNOWN]
        self._requests = metrics.counter(
            "http_requests_total",
            "Requests that ended, by route and class of status.",
            {"route": names, "status": _CLASSES},
        )
        self._duration = metrics.histogram(
            "http_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            {"route": names},
        )

        self._in_flight = metrics.gauge(
            "http_requests_in_flight_count",
            "Requests that are being answered; probes are not counted.",
        )

    def began(self, path: str) -> None:
        """A request has begun."""
        if path not in _QUIET_PATHS:
            self._in_flight.labels().inc()

    def finished(self, path: str) -> None:
        """It is over, however it went."""
        if path not in _QUIET_PATHS:
            self._in_flight.labels().dec()

    def ended(self, route: str, status: int, seconds: float) -> None:
        """A request has ended."""
        self._requests.labels(route=route, status=f"{status // 100}xx").inc()
        self._duration.labels(route=route).observe(seconds)


class EdgeMiddleware:
    """Goes around the whole application.

    Args:
        app: What is inside.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        self._metrics.began(scope["path"])
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = _GONE

        async def send_strictly(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, request_id, state)
            await send(message)

        trace = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        with (
            continued(trace, scope["method"], kind=SpanKind.SERVER) as span,
            bound(request_id=request_id),
        ):
            try:
                await self._app(scope, receive, send_strictly)
            except Exception as error:
                if status != _GONE:  # the answer has begun, and can only be cut off
                    raise
                response = answer(Request(scope), error)
                await response(scope, receive, send_strictly)
            finally:
                route = route_name(scope)
                seconds = time.perf_counter() - began
                self._metrics.ended(route, status, seconds)
                self._metrics.finished(scope["path"])
                span.update_name(route)
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(StatusCode.ERROR)
                # Whoever asks whether all is well asks every few seconds.
                quiet = route in _PROBES and status < HTTPStatus.BAD_REQUEST
                logger.log(
                    logging.DEBUG if quiet else logging.INFO,
                    "request",
                    extra={
                        "route": route,
                        "status": status,
                        "seconds": round(seconds, 5),
                        **({"tenant": state["tenant"]} if "tenant" in state else {}),
                    },
                )


def route_name(scope: Scope) -> str:
    """The route that served a request, as `GET /jobs/{id}`; few different ones."""
    route = scope.get("route")
    path = getattr(route, "path", None)
    return _UNKNOWN if path is None else f"{scope['method']} {path}"


def _add_headers(message: Message, request_id: str, state: dict[str, object]) -> None:
    headers = MutableHeaders(scope=message)
    headers["x-request-id"] = request_id
    for name, value in _STRICT.items():
        headers.setdefault(name, value)
    if "rate_remaining" in state:
        headers["ratelimit-remaining"] = str(state["rate_remaining"])
