"""Traces: OpenTelemetry spans, carried as W3C headers through rows, queues and calls.

A process that forks workers must not set tracing up itself: exporters hold threads and connections
that do not survive a fork. Each child does it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from interpretops_platform.telemetry.settings import TelemetrySettings

_PROPAGATOR = TraceContextTextMapPropagator()
_configured_in: dict[int, TracerProvider] = {}


def configure_tracing(service: str, settings: TelemetrySettings) -> TracerProvider:
    """Set tracing up for this process, once; behind a fork, in the child.

    Args:
        service: Name of the service, such as `tracer`.
        settings: Where spans go, and which.

    Returns:
        The provider of this process. Its `shutdown()` sends what is left.

    Raises:
        RuntimeError: When a parent of this process had set tracing up before it forked, or somebody
            else set up another provider.
    """
    pid = os.getpid()
    if pid in _configured_in:
        return _configured_in[pid]
    if _configured_in:
        raise RuntimeError("tracing was set up before the fork: set it up in each child instead")
    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.namespace": "interpretops",
                "service.name": service,
                "process.pid": pid,
            }
        ),
        sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
    )
    if settings.otlp_endpoint is not None:
        exporter = OTLPSpanExporter(
            endpoint=settings.otlp_endpoint,
            insecure=settings.otlp_endpoint.startswith("http://"),
            timeout=settings.otlp_timeout_seconds,
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    if trace.get_tracer_provider() is not provider:
        raise RuntimeError("another tracer provider was set up in this process before")
    _configured_in[pid] = provider
    return provider


@cache
def tracer() -> Tracer:
    """Makes the spans of this library; without `configure_tracing` they cost and carry nothing."""
    return trace.get_tracer("interpretops_platform")


def to_headers(context: Context | None = None) -> dict[str, str]:
    """The current trace as W3C headers, for an outbox row, a queue's message or a request.

    Args:
        context: Another context than the current one.

    Returns:
        `traceparent` and, where there is one, `tracestate`; empty outside any trace.
    """
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, context)
    return headers


def from_headers(headers: Mapping[str, str]) -> Context:
    """The trace that W3C headers name, on top of nothing else; malformed headers name none."""
    return _PROPAGATOR.extract(headers, otel_context.Context())


@contextmanager
def continued(
    headers: Mapping[str, str], name: str, *, kind: SpanKind = SpanKind.CONSUMER
) -> Iterator[Span]:
    """A span, made current, that goes on with the trace of whoever wrote these headers.

    Args:
        headers: As `to_headers` gave them.
        name: What is done, such as `run_job trace`: few different ones.
        kind: A consumer of a queue, or the server of a call.
    """
    with tracer().start_as_current_span(
        name,
        from_headers(headers),
        kind=kind,
        record_exception=False,  # an exception's text may hold what a span must not
        set_status_on_exception=False,
    ) as span:
        yield span
