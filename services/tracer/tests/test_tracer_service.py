"""What the tracer accepts, and what it refuses."""

import grpc
import pytest
import pytest_asyncio
from interpretops_platform.security.principal import Principal, Role
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import job_pb2, tracer_service_pb2_grpc
from interpretops_protos.v1.tracer_service_pb2 import SubmitTraceRequest
from interpretops_service.testing import refusal


@pytest_asyncio.fixture
async def submit(installation):
    async with installation.channel("tracer") as stub:
        service = stub(tracer_service_pb2_grpc.TracerServiceStub)

        def call(request, caller=None):
            with installation.acting(caller):
                return service.SubmitTrace(from_plain(SubmitTraceRequest, request))

        yield call


def request_for(**changes):
    return {
        "model": {"name": "builtin:smollm2-135m-instruct"},
        "prompts": {"uri": "package:jailbreak"},
        "spec": {"sites": ["resid_post.1"]},
        "idempotency_key": "k",
        **changes,
    }


async def test_a_job_is_accepted_once(submit):
    first, again = await submit(request_for()), await submit(request_for())
    assert first.job.kind == job_pb2.JOB_KIND_TRACE
    assert (first.replayed, again.replayed) == (False, True)
    assert again.job.id == first.job.id


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompts": {"uri": "file:///etc/passwd"}}, "prompts.uri"),
        ({"prompts": {"uri": "http://169.254.169.254/"}}, "prompts.uri"),
        ({"model": {"name": "/etc"}}, "model.name"),
        ({"spec": {"sites": []}}, "spec.sites"),
        ({"idempotency_key": ""}, "idempotency_key"),
    ],
)
async def test_what_is_wrong_is_named(submit, changes, field):
    problem = await refusal(submit(request_for(**changes)))
    assert (problem.code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_a_viewer_submits_nothing(installation, submit):
    viewer = Principal.of(installation.tenant_id, "key:viewer", [Role.VIEWER])
    problem = await refusal(submit(request_for(), viewer))
    assert problem.code is grpc.StatusCode.PERMISSION_DENIED
