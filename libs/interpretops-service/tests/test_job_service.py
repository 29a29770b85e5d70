"""The contract of `JobService`, on a real database, through a real server and channel."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
import pytest_asyncio
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs import lease as leases
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.rpc.client import Channels
from interpretops_platform.rpc.problems import problem_of
from interpretops_platform.rpc.server import RpcServer
from interpretops_platform.security.principal import Principal, Role
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_protos.v1 import job_pb2, job_service_pb2_grpc
from interpretops_service.job_service import job_service
from interpretops_service.serving import ServiceKit
from sqlalchemy import text

NOWHERE = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest_asyncio.fixture
async def jobs(installation):
    """A stub of the service for jobs of kind `trace` and `sae`; the caller is the operator."""
    async with serving(installation) as (stub, _):
        with installation.acting():
            yield stub


@asynccontextmanager
async def serving(installation):
    kit = ServiceKit(installation.settings, installation.database, Metrics(), asyncio.Event())
    settings = installation.settings.grpc
    async with (
        RpcServer([job_service(kit, "trace", "sae")], settings, stopping=kit.stopping) as server,
        Channels(settings, identity=installation.identity, idempotent=()) as channels,
    ):
        make = job_service_pb2_grpc.JobServiceStub
        yield channels.stub(make, f"127.0.0.1:{server.port}"), server


async def add(installation, kind="trace", *, caller=None, **more):
    caller = caller or installation.caller
    async with tenant_session(installation.database, caller.tenant_id) as session:
        request = JobRequest(kind=kind, created_by=caller.subject, **more)
        return (await submit(session, caller.tenant_id, request)).job.id


async def claim(installation, job_id):
    claimed = await leases.claim(
        installation.database, job_id, kinds=["trace", "sae"], owner="w", lease_seconds=60
    )
    return claimed.lease


async def within(installation, work):
    async with tenant_session(installation.database, installation.tenant_id) as session:
        return await work(session)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return problem_of(caught.value)


async def get(jobs, job_id):
    return (await jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id))).job


async def test_a_queued_job(installation, jobs):
    job_id = await add(installation, idempotency_key="k")
    job = await get(jobs, job_id)
    assert (job.id, job.kind, job.state) == (
        job_id,
        job_pb2.JOB_KIND_TRACE,
        job_pb2.JOB_STATE_QUEUED,
    )
    assert (job.idempotency_key, job.created_by, job.max_attempts) == ("k", "key:tests", 3)
    assert job.update_time.ToMicroseconds() >= job.create_time.ToMicroseconds() > 0
    assert not any(job.HasField(name) for name in ("start_time", "end_time", "result"))


async def test_a_running_job_says_how_far_it_is(installation, jobs):
    job_id = await add(installation)
    lease = await claim(installation, job_id)
    before = await get(jobs, job_id)
    progress = {
        "stage": "training",
        "done": 3,
        "total": 9,
        "seconds_left": 1.5,
        "figures": {"loss": 0.5},
    }
    await within(
        installation, lambda s: leases.heartbeat(s, lease, lease_seconds=60, progress=progress)
    )
    job = await get(jobs, job_id)
    assert job.progress == job_pb2.Progress(
        stage="training", done=3, total=9, seconds_left=1.5, metrics={"loss": 0.5}
    )
    assert (job.state, job.attempt) == (job_pb2.JOB_STATE_RUNNING, 1)
    assert job.etag != before.etag
    assert (await get(jobs, job_id)).etag == job.etag


async def test_a_job_that_succeeded_names_its_result(installation, jobs):
    job_id = await add(installation, "sae")
    lease = await claim(installation, job_id)
    made = await installation.keep("dictionary")
    await within(installation, lambda s: leases.finish(s, lease, result_artifact_id=made))
    job = await get(jobs, job_id)
    assert (job.kind, job.state) == (job_pb2.JOB_KIND_DICTIONARY, job_pb2.JOB_STATE_SUCCEEDED)
    assert (job.result.id, job.result.sha256, job.result.size) == (made, "a" * 64, 7)
    assert job.result.media_type == "application/vnd.safetensors"
    assert job.HasField("end_time")


async def test_a_job_that_failed_says_what_to_change(installation, jobs):
    job_id = await add(installation)
    lease = await claim(installation, job_id)
    error = {
        "type": "RequestError",
        "problem": "it is wrong",
        "fix": "right it",
        "field": "spec.sites",
        "retryable": False,
    }
    await within(installation, lambda s: leases.fail(s, lease, error, retry=False, retry_seconds=1))
    job = await get(jobs, job_id)
    assert job.state == job_pb2.JOB_STATE_FAILED
    assert job.error == job_pb2.JobError(problem="it is wrong", fix="right it", field="spec.sites")


async def test_jobs_of_other_services_and_tenants_are_not_found(installation, jobs):
    theirs = await add(installation, caller=await installation.another_tenant())
    for job_id in (NOWHERE, theirs, await add(installation, "circuit")):
        for call in (
            jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)),
            jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id)),
            jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id)).read(),
        ):
            assert (await refused(call)).code is grpc.StatusCode.NOT_FOUND
    assert (await jobs.ListJobs(job_pb2.ListJobsRequest())).jobs == []
    async with tenant_session(installation.database, installation.tenant_id) as session:
        assert await session.scalar(text("SELECT bool_or(cancel_requested) FROM jobs")) is False


async def test_pages_hold_every_job_once_newest_first(installation, jobs):
    made = [await add(installation, ("trace", "sae")[i % 2]) for i in range(7)]
    found, token = [], ""
    for _ in range(3):
        page = await jobs.ListJobs(job_pb2.ListJobsRequest(page_size=3, page_token=token))
        found += [job.id for job in page.jobs]
        token = page.next_page_token
        await add(installation)  # a newer job moves no page
    assert found == made[::-1]
    assert token == ""


async def test_a_full_last_page_is_the_last(installation, jobs):
    for _ in range(2):
        await add(installation)
    page = await jobs.ListJobs(job_pb2.ListJobsRequest(page_size=2))
    assert (len(page.jobs), page.next_page_token) == (2, "")


async def test_filters(installation, jobs):
    trace, sae = await add(installation), await add(installation, "sae")
    await claim(installation, sae)

    async def listed(**filters):
        return [job.id for job in (await jobs.ListJobs(job_pb2.ListJobsRequest(**filters))).jobs]

    assert await listed(states=[job_pb2.JOB_STATE_RUNNING]) == [sae]
    assert await listed(kinds=[job_pb2.JOB_KIND_TRACE]) == [trace]
    assert await listed(kinds=[job_pb2.JOB_KIND_CIRCUIT]) == []
    assert await listed(states=[job_pb2.JOB_STATE_QUEUED], kinds=[job_pb2.JOB_KIND_TRACE]) == [
        trace
    ]


@pytest.mark.parametrize(
    "token", ["x", "bm90IGpzb24=", "WzEsMiwzXQ==", "W10=", "\u00e9", "eyJhIjogMX0="]
)
async def test_a_token_that_is_not_ours(jobs, token):
    problem = await refused(jobs.ListJobs(job_pb2.ListJobsRequest(page_token=token)))
    assert (problem.code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, "page_token")


async def test_a_token_goes_with_its_filters(installation, jobs):
    for _ in range(2):
        await add(installation)
    page = await jobs.ListJobs(job_pb2.ListJobsRequest(page_size=1))
    other = job_pb2.ListJobsRequest(
        page_token=page.next_page_token, states=[job_pb2.JOB_STATE_QUEUED]
    )
    assert (await refused(jobs.ListJobs(other))).field == "page_token"


async def test_cancelling_a_queued_job_ends_it(installation, jobs):
    job_id = await add(installation)
    for _ in range(2):
        job = (await jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id))).job
        assert (job.state, job.cancel_requested) == (job_pb2.JOB_STATE_CANCELLED, True)


async def test_cancelling_needs_the_etag_it_was_given(installation, jobs):
    job_id = await add(installation)
    old = (await get(jobs, job_id)).etag
    await claim(installation, job_id)
    request = job_pb2.CancelJobRequest(job_id=job_id, etag=old)
    problem = await refused(jobs.CancelJob(request))
    assert (problem.code, problem.field) == (grpc.StatusCode.ABORTED, "etag")
    assert not (await get(jobs, job_id)).cancel_requested
    request.etag = (await get(jobs, job_id)).etag
    assert (await jobs.CancelJob(request)).job.cancel_requested


async def events(jobs, job_id, after=""):
    request = job_pb2.WatchJobRequest(job_id=job_id, after_cursor=after)
    return [answer.event async for answer in jobs.WatchJob(request)]


def moves(found):
    name = job_pb2.JobState.Name
    return [
        tuple(
            name(state).removeprefix("JOB_STATE_")
            for state in (getattr(event.state_change, "from"), event.state_change.to)
        )
        for event in found
        if event.HasField("state_change")
    ]


async def test_the_history_of_a_job_from_any_point(installation, jobs):
    job_id = await add(installation)
    first = await claim(installation, job_id)
    progress = {"stage": "training", "done": 1, "total": 2, "figures": {}}
    await within(
        installation, lambda s: leases.heartbeat(s, first, lease_seconds=60, progress=progress)
    )
    error = {"type": "X", "problem": "it broke", "fix": "wait", "retryable": True}
    await within(installation, lambda s: leases.fail(s, first, error, retry=True, retry_seconds=0))
    second = await claim(installation, job_id)
    made = await installation.keep("trace")
    await within(installation, lambda s: leases.finish(s, second, result_artifact_id=made))
    whole = await events(jobs, job_id)
    assert moves(whole) == [
        ("UNSPECIFIED", "QUEUED"),
        ("QUEUED", "RUNNING"),
        ("RUNNING", "QUEUED"),
        ("QUEUED", "RUNNING"),
        ("RUNNING", "SUCCEEDED"),
    ]
    assert whole[2].progress.stage == "training"
    assert whole[3].state_change.error.problem == "it broke"
    assert [whole[i].state_change.attempt for i in (1, 3, 4, 5)] == [1, 1, 2, 2]
    assert whole[-1].state_change.result.id == made
    for i, event in enumerate(whole):
        assert await events(jobs, job_id, event.cursor) == whole[i + 1 :]


async def test_watching_meets_what_happens_meanwhile(installation, jobs):
    job_id = await add(installation)
    watching = jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id))
    assert (await watching.read()).event.state_change.to == job_pb2.JOB_STATE_QUEUED
    await jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id))
    assert moves([(await watching.read()).event]) == [("QUEUED", "CANCELLED")]
    assert await watching.read() is grpc.aio.EOF


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 30, "\u0663"])
async def test_a_cursor_that_is_not_ours(installation, jobs, cursor):
    job_id = await add(installation)
    request = job_pb2.WatchJobRequest(job_id=job_id, after_cursor=cursor)
    problem = await refused(jobs.WatchJob(request).read())
    assert (problem.code, problem.field) == (grpc.StatusCode.INVALID_ARGUMENT, "after_cursor")


async def test_a_server_that_stops_sends_watchers_elsewhere(installation):
    job_id = await add(installation)
    async with serving(installation) as (stub, server):
        with installation.acting():
            watching = stub.WatchJob(job_pb2.WatchJobRequest(job_id=job_id))
            cursor = (await watching.read()).event.cursor
            stopping = asyncio.create_task(server.stop())
            problem = await refused(watching.read())
            await stopping
    assert problem.code is grpc.StatusCode.UNAVAILABLE
    assert problem.retry_after is not None
    async with serving(installation) as (stub, _):
        with installation.acting():
            await stub.CancelJob(job_pb2.CancelJobRequest(job_id=job_id))
            assert moves(await events(stub, job_id, cursor)) == [("QUEUED", "CANCELLED")]


async def test_scopes(installation, jobs):
    job_id = await add(installation)
    viewer = Principal.of(installation.tenant_id, "key:viewer", [Role.VIEWER])
    nobody = Principal.of(installation.tenant_id, "key:nobody", [Role.VIEWER], narrowed_to=[])
    cancelling = job_pb2.CancelJobRequest(job_id=job_id)
    with installation.acting(viewer):
        assert (await get(jobs, job_id)).id == job_id
        assert (await refused(jobs.CancelJob(cancelling))).code is (
            grpc.StatusCode.PERMISSION_DENIED
        )
    with installation.acting(nobody):
        for call in (
            jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)),
            jobs.ListJobs(job_pb2.ListJobsRequest()),
            jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id)).read(),
        ):
            assert (await refused(call)).code is grpc.StatusCode.PERMISSION_DENIED
