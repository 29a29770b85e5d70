"""Who am I, is the edge alive and ready, and what does it measure."""

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from fastapi import Request, Response
from grpc_health.v1 import health_pb2, health_pb2_grpc
from interpretops_platform.database.models import Tenant
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.call import current_principal
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from sqlalchemy import select, text

from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.routing import PUBLIC, needs, router

if TYPE_CHECKING:
    from interpretops_platform.telemetry.metrics import Metrics

routes = router("operations")

_LOOK_SECONDS = 2.0

Health = Literal["ok", "down"]


class Caller(BaseModel):
    """Who calls, and what they may do."""

    tenant_id: UUID
    tenant: str = Field(description="Name of the tenant.")
    subject: str = Field(description="How the caller stands in the audit log.", examples=["key:ci"])
    roles: list[str]
    scopes: list[str]


class Liveness(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests make sense now."""

    ready: bool
    checks: dict[str, Health] = Field(
        description="The database decides; while a service is down the rest goes on.",
        examples=[{"database": "ok", "redis": "ok", "tracer": "ok", "evaluator": "down"}],
    )


@routes.get("/whoami", dependencies=[needs()])
async def whoami(edge: EdgeDep) -> Caller:
    """Say who the caller is: tenant, subject, roles and scopes."""
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        tenant = await session.scalar(select(Tenant.name))
    return Caller(
        tenant_id=principal.tenant_id,
        tenant=tenant or "",
        subject=principal.subject,
        roles=sorted(principal.roles),
        scopes=sorted(principal.scopes),
    )


@routes.get("/healthz", dependencies=[PUBLIC])
async def healthz() -> Liveness:
    """Say that the process is alive, whatever else is."""
    return Liveness()


@routes.get(
    "/readyz",
    dependencies=[PUBLIC],
    responses={503: {"model": Readiness, "description": "Requests make no sense now."}},
)
async def readyz(request: Request, edge: EdgeDep, response: Response) -> Readiness:
    """Say whether requests make sense now, and which parts of the platform answer.

    The answer may be two seconds old.
    """
    probe: ReadinessProbe = request.app.state.readiness
    found = await probe.look(edge)
    if not found.ready:
        response.status_code = 503
    return found


@routes.get(
    "/metrics",
    dependencies=[PUBLIC],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Show what the edge measures, for Prometheus. Nothing in it names a tenant."""
    found: Metrics = request.app.state.metrics
    return Response(generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST)


class ReadinessProbe:
    """Looks at what the edge needs, at most once in two seconds however often it is asked."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._found: Readiness | None = None
        self._at = 0.0

    async def look(self, edge: Edge) -> Readiness:
        """What was found last, or what is found now where that is old."""
        async with self._lock:
            if self._found is None or time.monotonic() - self._at >= _LOOK_SECONDS:
                self._found = await self._look(edge)
                self._at = time.monotonic()
            return self._found

    async def _look(self, edge: Edge) -> Readiness:
        services = edge.services.addresses()
        asked = {
            "database": _ask_database(edge),
            "redis": _ask_redis(edge),
            **{name: _ask_service(edge, address) for name, address in services.items()},
        }
        answers = await asyncio.gather(*(_health(question) for question in asked.values()))
        checks = dict(zip(asked, answers, strict=True))
        ready = checks["database"] == "ok" and not edge.stopping.is_set()
        return Readiness(ready=ready, checks=checks)


async def _health(question: Coroutine[Any, Any, bool]) -> Health:
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            return "ok" if await question else "down"
    except Exception:  # whatever it is that fails, that is the answer
        return "down"


async def _ask_database(edge: Edge) -> bool:
    async with edge.database.app() as session:
        return bool(await session.scalar(text("SELECT true")))


async def _ask_redis(edge: Edge) -> bool:
    return bool(await edge.redis.ping())


async def _ask_service(edge: Edge, address: str) -> bool:
    stub: Any = edge.services.channels.stub(health_pb2_grpc.HealthStub, address)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_LOOK_SECONDS)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
