"""What the evaluator accepts, and what it refuses."""

import grpc
import pytest
import pytest_asyncio
from interpretops_platform.security.principal import Principal, Role
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import eval_service_pb2_grpc, job_pb2
from interpretops_protos.v1.eval_service_pb2 import SubmitEvaluationRequest
from interpretops_service.testing import refusal

NOWHERE = "cx_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest_asyncio.fixture
async def submit(installation):
    async with installation.channel("evaluator") as stub:
        service = stub(eval_service_pb2_grpc.EvalServiceStub)

        def call(request, caller=None):
            with installation.acting(caller):
                return service.SubmitEvaluation(from_plain(SubmitEvaluationRequest, request))

        yield call


def request_for(**changes):
    return {
        "model": {"name": "builtin:smollm2-135m-instruct"},
        "policy": {"yaml": "meta: {}"},
        "suites_uri": "package:eval_suites",
        "spec": {},
        "idempotency_key": "k",
        **changes,
    }


def suite(uri):
    return {"name": "a", "metrics": ["refusal_rate"], "dataset_uri": uri}


async def test_an_evaluation_is_accepted(installation, submit):
    circuit = {"id": await installation.keep("circuit")}
    policy = {"artifact": {"id": await installation.keep("policy")}}
    submitted = await submit(request_for(circuit=circuit, policy=policy))
    assert submitted.job.kind == job_pb2.JOB_KIND_RISK_CARD


async def test_a_circuit_must_be_the_callers(installation, submit):
    theirs = await installation.keep("circuit", (await installation.another_tenant()).tenant_id)
    for missing in (NOWHERE, theirs):
        problem = await refusal(submit(request_for(circuit={"id": missing})))
        assert (problem.code, problem.field) == (grpc.StatusCode.NOT_FOUND, "circuit")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"suites_uri": "file:///etc/passwd"}, "suites_uri"),
        ({"contrast": {"uri": "http://localhost/x"}}, "contrast.uri"),
        (
            {"suites_uri": None, "inline": {"suites": [suite("/etc/passwd")]}},
            "inline.suites[0].dataset_uri",
        ),
        ({"spec": {"max_new_tokens": 0}}, "spec.max_new_tokens"),
    ],
)
async def test_what_is_wrong_is_named(submit, changes, field):
    problem = await refusal(submit(request_for(**changes)))
    assert (problem.code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_a_viewer_submits_nothing(installation, submit):
    viewer = Principal.of(installation.tenant_id, "key:viewer", [Role.VIEWER])
    problem = await refusal(submit(request_for(), viewer))
    assert problem.code is grpc.StatusCode.PERMISSION_DENIED
