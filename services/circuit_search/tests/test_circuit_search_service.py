"""What the circuit search accepts, and what it refuses."""

import grpc
import pytest
import pytest_asyncio
from interpretops_platform.security.principal import Principal, Role
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import circuit_search_service_pb2_grpc, job_pb2
from interpretops_protos.v1.circuit_search_service_pb2 import SubmitSearchRequest
from interpretops_service.testing import refusal

NOWHERE = "sae_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest_asyncio.fixture
async def submit(installation):
    async with installation.channel("circuit_search") as stub:
        service = stub(circuit_search_service_pb2_grpc.CircuitSearchServiceStub)

        def call(request, caller=None):
            with installation.acting(caller):
                return service.SubmitSearch(from_plain(SubmitSearchRequest, request))

        yield call


def request_for(**changes):
    return {
        "model": {"name": "builtin:smollm2-135m-instruct"},
        "task": {"risk_class": "jailbreak"},
        "prompts": {"uri": "package:jailbreak", "split": "train"},
        "spec": {},
        "idempotency_key": "k",
        **changes,
    }


async def test_a_search_is_accepted(installation, submit):
    dictionary = {"id": await installation.keep("dictionary")}
    submitted = await submit(request_for(dictionary=dictionary))
    assert submitted.job.kind == job_pb2.JOB_KIND_CIRCUIT


async def test_a_dictionary_must_be_the_callers(installation, submit):
    theirs = await installation.keep("dictionary", (await installation.another_tenant()).tenant_id)
    for missing in (NOWHERE, theirs):
        problem = await refusal(submit(request_for(dictionary={"id": missing})))
        assert (problem.code, problem.field) == (grpc.StatusCode.NOT_FOUND, "dictionary")


async def test_a_trace_is_no_dictionary(installation, submit):
    trace = {"id": await installation.keep("trace")}
    problem = await refusal(submit(request_for(dictionary=trace)))
    assert (problem.code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, "dictionary")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompts": {"uri": "file:///etc/passwd"}}, "prompts.uri"),
        ({"spec": {"keep": 1.5}}, "spec.keep"),
        ({"prompts": None}, ""),
    ],
)
async def test_what_is_wrong_is_named(submit, changes, field):
    problem = await refusal(submit(request_for(**changes)))
    assert (problem.code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_a_viewer_submits_nothing(installation, submit):
    viewer = Principal.of(installation.tenant_id, "key:viewer", [Role.VIEWER])
    problem = await refusal(submit(request_for(), viewer))
    assert problem.code is grpc.StatusCode.PERMISSION_DENIED
