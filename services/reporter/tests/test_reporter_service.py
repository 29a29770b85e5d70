"""What the reporter accepts, and what it refuses."""

import grpc
import pytest_asyncio
from interpretops_platform.security.principal import Principal, Role
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import job_pb2, report_service_pb2_grpc
from interpretops_protos.v1.report_service_pb2 import SubmitReportRequest
from interpretops_service.testing import refusal

NOWHERE = "rc_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest_asyncio.fixture
async def submit(installation):
    async with installation.channel("reporter") as stub:
        service = stub(report_service_pb2_grpc.ReportServiceStub)

        def call(request, caller=None):
            with installation.acting(caller):
                return service.SubmitReport(from_plain(SubmitReportRequest, request))

        yield call


def request_for(card, **spec):
    return {"risk_card": {"id": card}, "spec": spec, "idempotency_key": "k"}


async def test_a_report_states_the_storage_that_is(installation, submit):
    card = await installation.keep("risk_card")
    submitted = await submit(request_for(card, storage="the moon", retention_days=3650))
    assert submitted.job.kind == job_pb2.JOB_KIND_REPORT
    assert (await installation.job(submitted.job.id)).spec["spec"] == {
        "retention_days": 14,
        "storage": "a folder of the installation",
    }


async def test_a_risk_card_must_be_the_callers(installation, submit):
    theirs = await installation.keep("risk_card", (await installation.another_tenant()).tenant_id)
    for missing in (NOWHERE, theirs):
        problem = await refusal(submit(request_for(missing)))
        assert (problem.code, problem.field) == (grpc.StatusCode.NOT_FOUND, "risk_card")


async def test_a_circuit_is_no_risk_card(installation, submit):
    problem = await refusal(submit(request_for(await installation.keep("circuit"))))
    assert (problem.code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, "risk_card")


async def test_a_viewer_submits_nothing(installation, submit):
    viewer = Principal.of(installation.tenant_id, "key:viewer", [Role.VIEWER])
    problem = await refusal(submit(request_for(NOWHERE), viewer))
    assert problem.code is grpc.StatusCode.PERMISSION_DENIED
