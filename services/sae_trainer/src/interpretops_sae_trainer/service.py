"""The control server: accepts training jobs and answers for them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import sae_trainer_service_pb2, sae_trainer_service_pb2_grpc
from interpretops_service.job_service import job_service
from interpretops_service.serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc
    from interpretops_service.intake import Intake
    from interpretops_service.serving import ServiceKit

KIND = "sae"


class SaeTrainerServicer(sae_trainer_service_pb2_grpc.SaeTrainerServiceServicer):
    """Accepts training jobs."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def SubmitDictionary(
        self,
        request: sae_trainer_service_pb2.SubmitDictionaryRequest,
        _: grpc.aio.ServicerContext[Any, Any],
    ) -> sae_trainer_service_pb2.SubmitDictionaryResponse:
        """Accept a training job."""
        return await self._intake.accept(
            KIND, request, sae_trainer_service_pb2.SubmitDictionaryResponse
        )


@asynccontextmanager
async def sae_trainer(kit: ServiceKit) -> AsyncIterator[Serving]:
    """The sae trainer."""
    service = Service(
        sae_trainer_service_pb2.DESCRIPTOR.services_by_name["SaeTrainerService"],
        sae_trainer_service_pb2_grpc.add_SaeTrainerServiceServicer_to_server,
        SaeTrainerServicer(kit.intake),
        {"SubmitDictionary": Scope.JOBS_WRITE},
    )
    yield Serving([service, job_service(kit, KIND)])
