"""What is accepted as a job, and what is refused with the field at fault."""

import pytest
from interpretops_platform.database.models import Job
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import IdempotencyConflictError
from interpretops_platform.security.uris import UriSettings
from interpretops_platform.settings import SecuritySettings
from interpretops_protos.plain import from_plain
from interpretops_protos.v1.eval_service_pb2 import (
    SubmitEvaluationRequest,
    SubmitEvaluationResponse,
)
from interpretops_protos.v1.sae_trainer_service_pb2 import (
    SubmitDictionaryRequest,
    SubmitDictionaryResponse,
)
from interpretops_protos.v1.tracer_service_pb2 import SubmitTraceRequest, SubmitTraceResponse
from interpretops_service.errors import MissingArtifactError, RequestError
from interpretops_service.intake import Intake
from sqlalchemy import func, select

MODEL = {"name": "builtin:smollm2-135m-instruct"}
TRACE = {
    "model": MODEL,
    "prompts": {"uri": "package:jailbreak"},
    "spec": {"sites": ["resid_post.1"]},
    "idempotency_key": "k",
}


@pytest.fixture
def accept(installation):
    async def run(request, kind, response, *, caller=None):
        intake = Intake(installation.database, installation.settings)
        with installation.acting(caller):
            return await intake.accept(kind, request, response)

    return run


@pytest.fixture
def trace(accept):
    async def run(caller=None, **changes):
        request = from_plain(SubmitTraceRequest, {**TRACE, **changes})
        return await accept(request, "trace", SubmitTraceResponse, caller=caller)

    return run


@pytest.fixture
def dictionary(accept):
    async def run(source):
        asked = {
            "model": MODEL,
            "spec": {"sites": ["resid_post.1"]},
            "idempotency_key": "k",
            **source,
        }
        request = from_plain(SubmitDictionaryRequest, asked)
        return await accept(request, "sae", SubmitDictionaryResponse)

    return run


async def stored(installation):
    async with tenant_session(installation.database, installation.tenant_id) as session:
        return await session.scalar(select(func.count()).select_from(Job))


async def test_a_job_is_what_was_asked_for_by_whom(installation, trace):
    accepted = await trace()
    assert not accepted.replayed
    job = await installation.job(accepted.job.id)
    assert job.kind == "trace"
    assert job.created_by == "key:tests"
    assert job.spec == {
        "model": {"name": "builtin:smollm2-135m-instruct"},
        "prompts": {"uri": "package:jailbreak"},
        "spec": {"sites": ["resid_post.1"]},
    }


async def test_the_same_key_is_the_same_job(installation, trace):
    first, again = await trace(), await trace()
    assert again.replayed
    assert again.job == first.job  # read anew, it is what the first answer said
    assert await stored(installation) == 1
    with pytest.raises(IdempotencyConflictError):
        await trace(spec={"sites": ["resid_post.2"]})
    other = await trace(caller=await installation.another_tenant())
    assert not other.replayed


@pytest.mark.parametrize("key", ["two words", "schlüssel", "line\nbreak"])
async def test_a_key_is_printable(trace, key):
    with pytest.raises(RequestError) as caught:
        await trace(idempotency_key=key)
    assert caught.value.field == "idempotency_key"


async def test_an_artifact_is_looked_up(installation, dictionary):
    made = await installation.keep("trace")
    job = await installation.job((await dictionary({"trace": {"id": made}})).job.id)
    assert job.inputs == {"artifacts": [made]}
    assert job.spec["trace"]["sha256"] == "a" * 64


async def test_an_artifact_must_be_there_for_the_caller(installation, dictionary):
    theirs = await installation.keep("trace", (await installation.another_tenant()).tenant_id)
    for missing in ("tr_01ARZ3NDEKTSV4RRFFQ69G5FAV", theirs):
        with pytest.raises(MissingArtifactError, match=missing) as caught:
            await dictionary({"trace": {"id": missing}})
        assert caught.value.field == "trace"
    assert await stored(installation) == 0


async def test_an_artifact_must_be_of_its_kind_and_content(installation, dictionary):
    circuit, made = await installation.keep("circuit"), await installation.keep("trace")
    for ref, field in (
        ({"id": circuit}, "trace"),
        ({"id": made, "kind": "circuit"}, "trace"),
        ({"id": made, "sha256": "b" * 64}, "trace.sha256"),
    ):
        with pytest.raises(RequestError) as caught:
            await dictionary({"trace": ref})
        assert caught.value.field == field


REFUSED = [
    "file:///etc/passwd",
    "s3://private/prompts.jsonl",
    "http://169.254.169.254/latest/meta-data",
    "https://example.com/prompts.jsonl",
    "/etc/passwd",
    "../secrets.jsonl",
    "package:../secrets",
]


@pytest.mark.parametrize("uri", REFUSED)
async def test_data_that_callers_may_not_name(installation, trace, dictionary, accept, uri):
    nested = from_plain(
        SubmitEvaluationRequest,
        {
            "model": MODEL,
            "policy": {"yaml": "meta: {}"},
            "inline": {"suites": [{"name": "a", "metrics": ["refusal_rate"], "dataset_uri": uri}]},
            "spec": {},
            "idempotency_key": "k",
        },
    )
    for call, field in (
        (trace(prompts={"uri": uri}), "prompts.uri"),
        (
            trace(prompts={"uri": "package:jailbreak", "wrappers_uri": uri}),
            "prompts.wrappers_uri",
        ),
        (dictionary({"text_uri": uri}), "text_uri"),
        (accept(nested, "eval", SubmitEvaluationResponse), "inline.suites[0].dataset_uri"),
    ):
        with pytest.raises(RequestError) as caught:
            await call
        assert caught.value.field == field
    assert await stored(installation) == 0


async def test_what_the_settings_allow(installation, trace, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "prompts.txt").write_text("hello")
    uris = UriSettings(folders=(data,), buckets=("public",), hub_ids=("owner/*",))
    installation.change(security=SecuritySettings(uris=uris))
    for i, uri in enumerate(
        ((data / "prompts.txt").as_uri(), "s3://public/x.jsonl", "hf://owner/data/x.jsonl")
    ):
        await trace(prompts={"uri": uri}, idempotency_key=f"uri-{i}")
    for i, name in enumerate((data.as_uri(), str(data), "owner/model")):
        accepted = await trace(model={"name": name}, idempotency_key=f"model-{i}")
        job = await installation.job(accepted.job.id)
        assert job.spec["model"]["name"] in (data.as_uri(), "owner/model")


@pytest.mark.parametrize(
    "name",
    ["/etc", "file:///etc", "../models/x", "s3://public/model", "other/model", "https://a.b/c"],
)
async def test_models_that_callers_may_not_name(installation, trace, name):
    uris = UriSettings(buckets=("public",), hub_ids=("owner/*",))
    installation.change(security=SecuritySettings(uris=uris))
    with pytest.raises(RequestError) as caught:
        await trace(model={"name": name})
    assert caught.value.field == "model.name"
