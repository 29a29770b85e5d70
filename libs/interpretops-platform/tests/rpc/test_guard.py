"""No call reaches a method without a deadline, a proven caller with the scope, and a valid request."""

import asyncio
import logging
import secrets

import grpc
import jwt
import pytest
from interpretops_platform.errors import IdempotencyConflictError, NotFoundError, SettingsError
from interpretops_platform.rpc.call import acting_as, current_principal, seconds_left
from interpretops_platform.rpc.identity import IDENTITY_HEADER, IdentityTokens
from interpretops_platform.rpc.problems import CallError, problem_of
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.security.principal import Principal, Role
from interpretops_protos.v1 import (
    job_pb2,
    job_service_pb2_grpc,
    steering_service_pb2,
)

from .conftest import GET, JOB_ID, TENANT, WATCH, Jobs, Service, Steering, found, job_service


class Recording(Jobs):
    """Answers, and remembers what reached it."""

    def __init__(self):
        self.seen = []

    async def GetJob(self, request, context):  # noqa: N802 - the contract's name
        self.seen.append((current_principal(), seconds_left()))
        return found(request.job_id)

    async def ListJobs(self, request, context):  # noqa: N802
        self.seen.append(request)
        return job_pb2.ListJobsResponse()

    async def WatchJob(self, request, context):  # noqa: N802
        self.seen.append((current_principal(), seconds_left()))
        yield job_pb2.WatchJobResponse()


class Raising(Jobs):
    """Raises what a test gives it."""

    def __init__(self, error):
        self.error = error

    async def GetJob(self, request, context):  # noqa: N802
        raise self.error

    async def WatchJob(self, request, context):  # noqa: N802
        yield job_pb2.WatchJobResponse(event=job_pb2.JobEvent(cursor="1"))
        raise self.error


async def refused(call) -> tuple[grpc.StatusCode, object]:
    """The code and the problem with which a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    problem = problem_of(caught.value)
    assert problem.code is caught.value.code()
    return problem.code, problem


def plain(server):
    """A channel that adds nothing to a call."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")


def headers(identity, principal):
    return ((IDENTITY_HEADER, identity.sign(principal)),)


@pytest.mark.parametrize("raw", ["unary", "stream"])
async def test_a_call_without_a_deadline_is_refused(running, identity, operator, raw):
    servicer = Recording()
    async with running(servicer) as (server, _), plain(server) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        metadata = headers(identity, operator)
        if raw == "unary":
            code, problem = await refused(stub.GetJob(GET, metadata=metadata))
        else:
            code, problem = await refused(stub.WatchJob(WATCH, metadata=metadata).read())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert problem.problem == "the call has no deadline"
        assert problem.fix.startswith("set a deadline of at most")
        assert servicer.seen == []


async def test_a_deadline_too_far_away_is_refused_each_kind_by_its_own_bound(
    running, identity, operator
):
    servicer = Recording()
    settings = GrpcSettings(max_unary_seconds=30, max_stream_seconds=300,
                            default_unary_seconds=30, default_stream_seconds=300)  # fmt: skip
    async with running(servicer, settings=settings) as (server, _), plain(server) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        metadata = headers(identity, operator)
        code, problem = await refused(stub.GetJob(GET, timeout=100, metadata=metadata))
        assert (code, problem.problem) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "the call's deadline is too far",
        )
        assert [_ async for _ in stub.WatchJob(WATCH, timeout=100, metadata=metadata)]


async def test_methods_know_their_caller_and_their_deadline(running, as_operator):
    servicer = Recording()
    async with running(servicer) as (_, stub):
        assert (await stub.GetJob(GET, timeout=20)).job.id == JOB_ID
        assert len([_ async for _ in stub.WatchJob(WATCH, timeout=20)]) == 1
        with acting_as(Principal.of(TENANT, "key:other", [Role.VIEWER])):
            await stub.GetJob(GET)
    (first, left), (second, _), (third, default) = servicer.seen
    assert first == second == as_operator
    assert third.subject == "key:other"
    assert 0 < left < 21 < default < 31  # rounded up on the wire


async def test_requests_are_held_to_their_contract(running, as_operator):
    servicer = Recording()
    async with running(servicer) as (_, stub):
        code, problem = await refused(
            stub.ListJobs(job_pb2.ListJobsRequest(page_size=900, states=[1, 1, 0]))
        )
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert problem.field == "page_size"
        assert [(item.field, item.rule) for item in problem.fields] == [
            ("page_size", "uint32.lte"),
            ("states", "repeated.unique"),
            ("states[2]", "enum.not_in"),
        ]
        assert problem.fields[0].problem == "must be less than or equal to 500"
        code, problem = await refused(stub.WatchJob(job_pb2.WatchJobRequest(job_id="x")).read())
        assert (code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, "job_id")
        assert servicer.seen == []


async def test_fields_of_nested_messages_are_named_by_their_path(running, as_operator):
    request = steering_service_pb2.SubmitPolicyProposalRequest(idempotency_key="k")
    request.data.train_risky.SetInParent()
    async with running(Steering()) as (_, stub):
        _, problem = await refused(stub.SubmitPolicyProposal(request))
    assert {"model", "data.train_harmless", "spec"} <= {item.field for item in problem.fields}


async def test_a_request_with_a_thousand_mistakes_gets_an_answer(running, as_operator):
    async with running(Recording()) as (_, stub):
        code, problem = await refused(
            stub.ListJobs(job_pb2.ListJobsRequest(states=[77] * 5000, page_token="é" * 5000))
        )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert 5 < len(problem.fields) < 200


async def test_bytes_that_are_no_message_are_the_callers_mistake(running, identity, operator):
    async with running(Recording()) as (server, _), plain(server) as channel:
        call = channel.unary_unary("/interpretops.v1.JobService/GetJob")
        code, problem = await refused(
            call(b"\xff\xff\xff\xff", timeout=20, metadata=headers(identity, operator))
        )
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "DecodeError" not in problem.problem


def forged_with_another_key(principal, **_):
    return IdentityTokens([secrets.token_bytes(32)]).sign(principal)


def forged_under_the_name_of_the_key(principal, identity, **_):
    name = jwt.get_unverified_header(identity.sign(principal))["kid"]
    claims = jwt.decode(identity.sign(principal), options={"verify_signature": False})
    head = {"kid": name, "typ": "iop-identity+jwt"}
    return jwt.encode(claims, secrets.token_bytes(32), "HS256", headers=head)


def without_signature(principal, identity, **_):
    claims = jwt.decode(identity.sign(principal), options={"verify_signature": False})
    head = jwt.get_unverified_header(identity.sign(principal)) | {"alg": "none"}
    return jwt.encode(claims, None, "none", headers=head)


def for_another_purpose(principal, identity, keys):
    claims = jwt.decode(identity.sign(principal), options={"verify_signature": False})
    head = jwt.get_unverified_header(identity.sign(principal)) | {"typ": "JWT"}
    return jwt.encode(claims, keys[0], "HS256", headers=head)


def expired(principal, keys, **_):
    return IdentityTokens(keys, clock=lambda: 1_000_000).sign(principal)


def from_the_future(principal, keys, **_):
    return IdentityTokens(keys, clock=lambda: 40_000_000_000).sign(principal)


def with_another_tenant(principal, identity, **_):
    head, _, signature = identity.sign(principal).split(".")
    other = Principal.of(type(TENANT)(int=7), principal.subject, principal.roles)
    return ".".join((head, identity.sign(other).split(".")[1], signature))


def nonsense(principal, **_):
    return "a.b.c"


def far_too_long(principal, **_):
    return "a" * 5000


@pytest.mark.parametrize(
    "forge",
    [
        forged_with_another_key,
        forged_under_the_name_of_the_key,
        without_signature,
        for_another_purpose,
        expired,
        from_the_future,
        with_another_tenant,
        nonsense,
        far_too_long,
    ],
)
async def test_a_forged_identity_is_refused(running, identity, keys, operator, forge):
    servicer = Recording()
    token = forge(operator, identity=identity, keys=keys)
    async with running(servicer) as (server, _), plain(server) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        code, _ = await refused(stub.GetJob(GET, timeout=20, metadata=((IDENTITY_HEADER, token),)))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert servicer.seen == []
        good = identity.sign(operator)
        assert (await stub.GetJob(GET, timeout=20, metadata=((IDENTITY_HEADER, good),))).job.id


async def test_no_identity_and_two_identities_are_refused(running, identity, operator):
    servicer = Recording()
    other = Principal.of(type(TENANT)(int=7), "key:other", [Role.ADMIN])
    two = headers(identity, operator) + headers(identity, other)
    plain_claims = (("x-tenant-id", str(TENANT)), ("x-scopes", "jobs:read"))
    async with running(servicer) as (server, stub), plain(server) as channel:
        raw = job_service_pb2_grpc.JobServiceStub(channel)
        for call in (
            stub.GetJob(GET),  # outside acting_as
            raw.GetJob(GET, timeout=20, metadata=two),
            raw.GetJob(GET, timeout=20, metadata=plain_claims),
        ):
            code, _ = await refused(call)
            assert code is grpc.StatusCode.UNAUTHENTICATED
    assert servicer.seen == []


async def test_every_method_asks_for_its_scope(running):
    viewer = Principal.of(TENANT, "key:viewer", [Role.VIEWER])
    async with running(Recording()) as (_, stub):
        with acting_as(viewer):
            assert await stub.GetJob(GET)
            code, problem = await refused(stub.CancelJob(job_pb2.CancelJobRequest(job_id=JOB_ID)))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "jobs:write" in problem.problem


def test_a_service_cannot_forget_the_scope_of_a_method():
    complete = job_service(Jobs())
    some = {name: scope for name, scope in complete.scopes.items() if name != "CancelJob"}
    with pytest.raises(ValueError, match="CancelJob"):
        Service(complete.descriptor, complete.register, complete.servicer, some)


class EngineError(Exception):
    """Like an error of the engine, of which the platform knows nothing."""

    def __init__(self, problem, fix):
        self.problem, self.fix = problem, fix


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (NotFoundError("no such job", fix="list jobs"), "NOT_FOUND", "no such job"),
        (IdempotencyConflictError("same key", fix="new key"), "ALREADY_EXISTS", "same key"),
        (EngineError("unknown site", "name another"), "FAILED_PRECONDITION", "unknown site"),
    ],
)
async def test_known_errors_say_what_to_do(running, as_operator, error, code, text):
    codes = {EngineError: grpc.StatusCode.FAILED_PRECONDITION}
    async with running(Raising(error), codes=codes) as (_, stub):
        unary = await refused(stub.GetJob(GET))
        stream = stub.WatchJob(WATCH)
        assert (await stream.read()).event.cursor == "1"
        for got, problem in (unary, await refused(stream.read())):
            assert got is grpc.StatusCode[code]
            assert (problem.problem, problem.fix) == (text, error.fix)
            assert problem.error_id is None


async def test_a_refusal_can_name_fields_and_a_time(running, as_operator):
    class FullError(NotFoundError):
        field = "model"
        retry_after = 2.5

    error = CallError(
        "the queue is full",
        fix="try later",
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        retry_after=1.25,
    )
    async with running(Raising(error)) as (_, stub):
        code, problem = await refused(stub.GetJob(GET))
        assert (code, problem.retry_after) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 1.25)
    async with running(Raising(FullError("not loaded", fix="load it"))) as (_, stub):
        code, problem = await refused(stub.GetJob(GET))
        assert (problem.field, problem.retry_after) == ("model", 2.5)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("password=S3cr3t of /etc/shadow"),
        SettingsError("the pepper is S3cr3t", fix="set S3cr3t"),
    ],
)
async def test_a_defect_shows_its_id_and_nothing_else(running, as_operator, caplog, error):
    async with running(Raising(error)) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught, caplog.at_level(logging.ERROR):
            await stub.GetJob(GET)
    problem = problem_of(caught.value)
    assert problem.code is grpc.StatusCode.INTERNAL
    (record,) = [record for record in caplog.records if hasattr(record, "error_id")]
    assert record.error_id == problem.error_id
    assert record.exc_info[1] is error
    assert problem.error_id in problem.fix
    assert b"S3cr3t" not in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    assert "S3cr3t" not in caught.value.details()


async def test_a_methods_own_abort_stands(running, as_operator):
    class Aborting(Jobs):
        async def GetJob(self, request, context):  # noqa: N802
            await context.abort(grpc.StatusCode.ABORTED, "raced")

    async with running(Aborting()) as (_, stub):
        code, problem = await refused(stub.GetJob(GET))
    assert (code, problem.problem) == (grpc.StatusCode.ABORTED, "raced")


async def test_what_a_service_behind_says_comes_through_and_its_addresses_do_not(
    running, as_operator
):
    class Front(Jobs):
        def __init__(self, stub):
            self.stub = stub

        async def GetJob(self, request, context):  # noqa: N802
            return await self.stub.GetJob(request)

    refusal = CallError("not now", fix="wait", code=grpc.StatusCode.UNAVAILABLE, retry_after=3)
    async with (
        running(Raising(refusal), idempotent=()) as (back, behind),
        running(Front(behind), idempotent=()) as (_, stub),
    ):
        code, problem = await refused(stub.GetJob(GET))
        assert (code, problem.problem, problem.retry_after) == (
            grpc.StatusCode.UNAVAILABLE, "not now", 3,
        )  # fmt: skip
        await back.stop(0)
        code, problem = await refused(stub.GetJob(GET))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert str(back.port) not in problem.problem


async def test_a_call_made_while_serving_one_ends_with_it_and_is_for_the_same_caller(
    running, as_operator
):
    behind_servicer = Recording()

    class Front(Jobs):
        async def GetJob(self, request, context):  # noqa: N802
            return await behind.GetJob(request, timeout=25)

    async with running(behind_servicer) as (_, behind), running(Front()) as (_, stub):
        await stub.GetJob(GET, timeout=10)
    ((principal, left),) = behind_servicer.seen
    assert principal == as_operator
    assert left < 11  # rounded up on the wire


async def test_a_method_that_outlives_its_deadline_is_cancelled(running, as_operator):
    cancelled = asyncio.Event()

    class Slow(Jobs):
        async def GetJob(self, request, context):  # noqa: N802
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    async with running(Slow()) as (_, stub):
        code, _ = await refused(stub.GetJob(GET, timeout=0.3))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(cancelled.wait(), 30)


async def test_a_message_beyond_the_limit_is_refused(running, as_operator):
    settings = GrpcSettings(max_message_bytes=4096)
    async with running(Recording(), settings=settings, client=GrpcSettings()) as (_, stub):
        request = job_pb2.ListJobsRequest(page_token="x" * 8192)
        code, _ = await refused(stub.ListJobs(request))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_details_that_are_no_status_are_ignored():
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND,
        trailing_metadata=grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff")),
        details="gone",
    )
    assert (problem_of(error).problem, problem_of(error).fix) == ("gone", "")
