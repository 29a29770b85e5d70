"""The control server: accepts evaluation jobs and answers for them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import eval_service_pb2, eval_service_pb2_grpc
from interpretops_service.job_service import job_service
from interpretops_service.serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc
    from interpretops_service.intake import Intake
    from interpretops_service.serving import ServiceKit

KIND = "eval"


class EvalServicer(eval_service_pb2_grpc.EvalServiceServicer):
    """Accepts evaluation jobs."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def SubmitEvaluation(
        self,
        request: eval_service_pb2.SubmitEvaluationRequest,
        _: grpc.aio.ServicerContext[Any, Any],
    ) -> eval_service_pb2.SubmitEvaluationResponse:
        """Accept an evaluation job."""
        return await self._intake.accept(KIND, request, eval_service_pb2.SubmitEvaluationResponse)


@asynccontextmanager
async def evaluator(kit: ServiceKit) -> AsyncIterator[Serving]:
    """The evaluator."""
    service = Service(
        eval_service_pb2.DESCRIPTOR.services_by_name["EvalService"],
        eval_service_pb2_grpc.add_EvalServiceServicer_to_server,
        EvalServicer(kit.intake),
        {"SubmitEvaluation": Scope.JOBS_WRITE},
    )
    yield Serving([service, job_service(kit, KIND)])
