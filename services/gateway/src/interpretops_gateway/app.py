"""The application: all routes, what goes around them, and what they are served with."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from interpretops_platform.telemetry.metrics import Metrics
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from interpretops_gateway.edge import open_edge
from interpretops_gateway.middleware import EdgeMiddleware, RequestMetrics
from interpretops_gateway.problems import ProblemDocument, answer
from interpretops_gateway.reference import DESCRIPTION, TAGS, add_reference
from interpretops_gateway.routes import (
    artifacts,
    audit,
    circuits,
    drift,
    features,
    jobs,
    keys,
    models,
    names,
    openai,
    operations,
    playground,
    policies,
    samples,
    steer,
    tenant,
    work,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import FrameType

    from fastapi import Request
    from interpretops_platform.settings import Settings
    from starlette.responses import Response

# What is asked most comes first: a request is tried against one route after another.
_ROUTERS = (
    jobs.routes,
    operations.routes,
    work.routes,
    policies.routes,
    drift.routes,
    steer.routes,
    playground.routes,
    models.routes,
    openai.routes,
    artifacts.routes,
    names.routes,
    samples.routes,
    circuits.routes,
    features.routes,
    keys.routes,
    tenant.routes,
    audit.routes,
)


def create_app(settings: Settings, *, metrics: Metrics | None = None) -> FastAPI:
    """The edge as an ASGI application.

    Args:
        settings: Of the installation.
        metrics: Where requests are counted.
    """
    measured = Metrics.of_process() if metrics is None else metrics

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_edge(settings) as edge:
            app.state.edge = edge
            with _told_to_stop(edge.stopping):
                yield
            edge.stopping.set()

    app = FastAPI(
        title="InterpretOps",
        version="1.0.0",
        summary="Find, steer and audit what goes on inside language models.",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        max_body_size=settings.edge.body_bytes,
        separate_input_output_schemas=False,
        # `EdgeMiddleware` makes the span of a request, without what callers wrote into its address.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.metrics = measured
    app.state.readiness = operations.ReadinessProbe()
    for router in _ROUTERS:
        # Not `include_router`, which wraps each route in another one that is matched per request.
        app.router.routes.extend(router.routes)
    if settings.edge.docs:
        add_reference(app)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    if settings.edge.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.edge.cors_origins),
            allow_methods=["*"],
            allow_headers=["authorization", "content-type", "idempotency-key", "prefer"],
            expose_headers=["location", "retry-after", "x-request-id", "etag"],
        )
    names = [
        f"{method} {route.path}" for route in api_routes(app) for method in route.methods or ()
    ]
    app.add_middleware(EdgeMiddleware, metrics=RequestMetrics(measured, names))
    _describe_problems(app)
    return app


def api_routes(app: FastAPI) -> list[APIRoute]:
    """The documented routes of the edge."""
    return [route for route in app.router.routes if isinstance(route, APIRoute)]


@contextmanager
def _told_to_stop(stopping: asyncio.Event) -> Iterator[None]:
    """The event is set with the signal that ends the server, before it waits for open streams."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _answer(request: Request, error: Exception) -> Response:
    return answer(request, error)


def _describe_problems(app: FastAPI) -> None:
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        schemas = document["components"]["schemas"]
        # Ours stands in their place.
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        if "ProblemDocument" not in schemas:
            schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign] # the documented way
