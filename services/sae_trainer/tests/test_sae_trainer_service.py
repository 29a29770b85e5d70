"""What the trainer accepts, and what it refuses."""

import grpc
import pytest
import pytest_asyncio
from interpretops_platform.security.principal import Principal, Role
from interpretops_protos.plain import from_plain
from interpretops_protos.v1 import job_pb2, sae_trainer_service_pb2_grpc
from interpretops_protos.v1.sae_trainer_service_pb2 import SubmitDictionaryRequest
from interpretops_service.testing import refusal

NOWHERE = "tr_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest_asyncio.fixture
async def submit(installation):
    async with installation.channel("sae_trainer") as stub:
        service = stub(sae_trainer_service_pb2_grpc.SaeTrainerServiceStub)

        def call(request, caller=None):
            with installation.acting(caller):
                return service.SubmitDictionary(from_plain(SubmitDictionaryRequest, request))

        yield call


def request_for(source, **changes):
    return {
        "model": {"name": "builtin:smollm2-135m-instruct"},
        "spec": {"sites": ["resid_post.1"]},
        "idempotency_key": "k",
        **source,
        **changes,
    }


async def test_every_source_is_accepted(installation, submit):
    sources = (
        {"trace": {"id": await installation.keep("trace")}},
        {"prompts": {"uri": "package:jailbreak", "split": "train"}},
        {"text_uri": "package:benign_qa"},
    )
    for i, source in enumerate(sources):
        submitted = await submit(request_for(source, idempotency_key=f"k{i}"))
        assert submitted.job.kind == job_pb2.JOB_KIND_DICTIONARY


async def test_a_trace_must_be_the_callers(installation, submit):
    theirs = await installation.keep("trace", (await installation.another_tenant()).tenant_id)
    for missing in (NOWHERE, theirs):
        problem = await refusal(submit(request_for({"trace": {"id": missing}})))
        assert (problem.code, problem.field) == (grpc.StatusCode.NOT_FOUND, "trace")


@pytest.mark.parametrize(
    ("source", "changes", "field"),
    [
        ({"text_uri": "file:///etc/passwd"}, {}, "text_uri"),
        ({"prompts": {"uri": "s3://closed/x.jsonl"}}, {}, "prompts.uri"),
        (
            {"text_uri": "package:benign_qa"},
            {"spec": {"sites": ["resid_post.1"], "k": 64, "d_sae": 64}},
            "spec",
        ),
    ],
)
async def test_what_is_wrong_is_named(submit, source, changes, field):
    problem = await refusal(submit(request_for(source, **changes)))
    assert (problem.code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_a_viewer_submits_nothing(installation, submit):
    viewer = Principal.of(installation.tenant_id, "key:viewer", [Role.VIEWER])
    problem = await refusal(submit(request_for({"text_uri": "package:benign_qa"}), viewer))
    assert problem.code is grpc.StatusCode.PERMISSION_DENIED
