"""The control server: accepts report jobs and answers for them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from interpretops_platform.rpc.server import Service
from interpretops_platform.security.principal import Scope
from interpretops_protos.v1 import report_pb2, report_service_pb2, report_service_pb2_grpc
from interpretops_service.job_service import job_service
from interpretops_service.serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc
    from interpretops_platform.settings import Settings
    from interpretops_service.intake import Intake
    from interpretops_service.serving import ServiceKit

KIND = "report"


class ReportServicer(report_service_pb2_grpc.ReportServiceServicer):
    """Accepts report jobs."""

    def __init__(self, intake: Intake, facts: report_pb2.ReportSpec) -> None:
        self._intake = intake
        self._facts = facts

    async def SubmitReport(
        self,
        request: report_service_pb2.SubmitReportRequest,
        _: grpc.aio.ServicerContext[Any, Any],
    ) -> report_service_pb2.SubmitReportResponse:
        """Accept a report job; what a report says of storage is what is so, whoever asks for it."""
        request.spec.CopyFrom(self._facts)
        return await self._intake.accept(KIND, request, report_service_pb2.SubmitReportResponse)


def storage_facts(settings: Settings) -> report_pb2.ReportSpec:
    """Where this installation keeps artifacts and for how long, as a report states it."""
    objects = settings.object_settings()
    where = "a folder of the installation"
    if objects.bucket is not None:
        where = f"the bucket {objects.bucket}"
    if settings.security.master_key_file is not None:
        where += ", encrypted with a key per tenant"
    return report_pb2.ReportSpec(
        retention_days=settings.compliance.retention_days,
        storage=where,
        store_address=None if objects.bucket is None else objects.endpoint,
    )


@asynccontextmanager
async def reporter(kit: ServiceKit) -> AsyncIterator[Serving]:
    """The reporter."""
    service = Service(
        report_service_pb2.DESCRIPTOR.services_by_name["ReportService"],
        report_service_pb2_grpc.add_ReportServiceServicer_to_server,
        ReportServicer(kit.intake, storage_facts(kit.settings)),
        {"SubmitReport": Scope.JOBS_WRITE},
    )
    yield Serving([service, job_service(kit, KIND)])
