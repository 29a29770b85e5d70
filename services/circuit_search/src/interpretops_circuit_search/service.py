"""The control server: accepts search jobs and answers for them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import circuit_search_service_pb2, circuit_search_service_pb2_grpc
from interpretops_service.job_service import job_service
from interpretops_service.serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc
    from interpretops_service.intake import Intake
    from interpretops_service.serving import ServiceKit

KIND = "circuit"


class CircuitSearchServicer(circuit_search_service_pb2_grpc.CircuitSearchServiceServicer):
    """Accepts search jobs."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def SubmitSearch(
        self,
        request: circuit_search_service_pb2.SubmitSearchRequest,
        _: grpc.aio.ServicerContext[Any, Any],
    ) -> circuit_search_service_pb2.SubmitSearchResponse:
        """Accept a search job."""
        return await self._intake.accept(
            KIND, request, circuit_search_service_pb2.SubmitSearchResponse
        )


@asynccontextmanager
async def circuit_search(kit: ServiceKit) -> AsyncIterator[Serving]:
    """The circuit search."""
    service = Service(
        circuit_search_service_pb2.DESCRIPTOR.services_by_name["CircuitSearchService"],
        circuit_search_service_pb2_grpc.add_CircuitSearchServiceServicer_to_server,
        CircuitSearchServicer(kit.intake),
        {"SubmitSearch": Scope.JOBS_WRITE},
    )
    yield Serving([service, job_service(kit, KIND)])
