"""The worker's side: writes the audit report of a Risk Card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops.reports import ReportArtifact, ReportSpec, write_report
from interpretops_protos.v1.report_service_pb2 import SubmitReportRequest
from interpretops_service.engine.bench import EngineHandler

if TYPE_CHECKING:
    from interpretops_service.engine.bench import Bench


def report(bench: Bench, request: SubmitReportRequest) -> ReportArtifact:
    """Write the report that a request asks for."""
    return write_report(
        request.risk_card.id,
        bench.spec(ReportSpec, request.spec),
        store=bench.store,
        monitor=bench.monitor,
    )


handler = EngineHandler(SubmitReportRequest, report)
