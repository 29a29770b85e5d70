"""The control server: accepts trace jobs and answers for them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import tracer_service_pb2, tracer_service_pb2_grpc
from interpretops_service.job_service import job_service
from interpretops_service.serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc
    from interpretops_service.intake import Intake
    from interpretops_service.serving import ServiceKit

KIND = "trace"


class TracerServicer(tracer_service_pb2_grpc.TracerServiceServicer):
    """Accepts trace jobs."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def SubmitTrace(
        self,
        request: tracer_service_pb2.SubmitTraceRequest,
        _: grpc.aio.ServicerContext[Any, Any],
    ) -> tracer_service_pb2.SubmitTraceResponse:
        """Accept a trace job."""
        return await self._intake.accept(KIND, request, tracer_service_pb2.SubmitTraceResponse)


@asynccontextmanager
async def tracer(kit: ServiceKit) -> AsyncIterator[Serving]:
    """The tracer."""
    service = Service(
        tracer_service_pb2.DESCRIPTOR.services_by_name["TracerService"],
        tracer_service_pb2_grpc.add_TracerServiceServicer_to_server,
        TracerServicer(kit.intake),
        {"SubmitTrace": Scope.JOBS_WRITE},
    )
    yield Serving([service, job_service(kit, KIND)])
