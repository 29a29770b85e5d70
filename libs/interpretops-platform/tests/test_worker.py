"""A worker without Celery around it: what handlers get, and what becomes of what they do."""

import asyncio

import pytest
from interpretops_platform.database.models import Job, Tenant
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import PlatformError
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.jobs.watch import get_job
from interpretops_platform.jobs.worker import JobResult, Worker
from interpretops_platform.objects.blobs import StoreUnavailableError
from interpretops_platform.settings import CacheSettings
from sqlalchemy import select


@pytest.fixture
def run(settings, database, tenant_id, tmp_path):
    """Submit one job, let a handler have it once, and give back what became of it."""

    async def _run(handler, **request):
        async with tenant_session(database, tenant_id) as session:
            request = JobRequest(kind="trace", **request)
            job_id = (await submit(session, tenant_id, request)).job.id
        cache = CacheSettings(dir=tmp_path / "cache")
        worker = Worker(settings.model_copy(update={"cache": cache}), {"trace": handler})
        await asyncio.to_thread(worker.run, job_id)
        async with tenant_session(database, tenant_id) as session:
            return await get_job(session, job_id)

    return _run


async def test_a_handler_gets_what_was_asked_for(run, tenant_id):
    seen = {}

    def handler(context):
        seen.update(vars(context))
        return JobResult()

    traceparent = {"traceparent": "00-1-2-01"}
    job = await run(handler, spec={"n": 1}, inputs={"m": "tr_1"}, trace_context=traceparent)
    assert job.state == "SUCCEEDED"
    assert seen["spec"] == {"n": 1}
    assert seen["inputs"] == {"m": "tr_1"}
    assert (seen["job_id"], seen["attempt"]) == (job.id, 1)
    assert seen["tenant_id"] == tenant_id
    assert seen["trace_context"] == traceparent


async def test_a_handler_reads_as_its_tenant_only(run, tenant_id, other_tenant_id):
    seen = []

    def handler(context):
        async def tenants(session):
            return (await session.scalars(select(Tenant.id))).all()

        seen.extend(context.in_session(tenants))
        return JobResult()

    await run(handler)
    assert seen == [tenant_id]


async def test_scratch_space_is_gone_with_the_attempt(run):
    folders = []

    def handler(context):
        context.folder.mkdir(parents=True)
        (context.folder / "shard").write_bytes(b"x")
        folders.append(context.folder)
        return JobResult()

    await run(handler)
    assert not folders[0].exists()


@pytest.mark.parametrize(
    ("error", "state", "problem"),
    [
        (StoreUnavailableError("timeout"), "QUEUED", "the object store failed: timeout"),
        (PlatformError("bad\0\ud800 spec", fix="mend it"), "FAILED", "bad? spec"),
        (ValueError("password"), "QUEUED", "the work failed with ValueError"),
    ],
)
async def test_only_what_may_go_better_is_tried_again(run, error, state, problem):
    def handler(context):
        raise error

    job = await run(handler)
    assert (job.state, job.error["problem"]) == (state, problem)


async def test_figures_that_are_no_numbers_do_not_stop_the_report(run):
    def handler(context):
        context.update("training", 1, 2, loss=float("nan"), rate=float("inf"), tokens=3)
        return JobResult()

    job = await run(handler)
    assert (job.state, job.progress["figures"]) == ("SUCCEEDED", {"tokens": 3.0})


async def test_the_time_left_is_that_of_the_stage(run, monkeypatch):
    clock = iter([0.0, 10.0, 20.0, 100.0, 101.0, 200.0, 202.0])
    said = []

    def handler(context):
        with monkeypatch.context() as frozen:
            frozen.setattr("interpretops_platform.jobs.worker.time.monotonic", lambda: next(clock))
            frozen.setattr(type(context), "check", lambda _: None)
            reports = [("a", 4, 10), ("a", 6, 10), ("a", 9, 10), ("b", 0, 10), ("b", 1, 10)]
            for report in (*reports, ("b", 1, 5), ("b", 2, 5)):
                context.update(*report)
                said.append(context.progress["seconds_left"])
        return JobResult()

    await run(handler)
    # "a" was at 4 when it was first heard of: then 2 steps in 10 s, then 5 in 20 s. Another total is
    # other work, though the stage is called the same.
    assert said == [None, 20.0, 4.0, None, 9.0, None, 6.0]


async def test_an_error_keeps_the_field_at_fault(run):
    class Wrong(PlatformError):
        field = "spec.sites"

    def handler(context):
        raise Wrong("a site is unknown", fix="name another one")

    error = (await run(handler)).error
    assert (error["field"], error["retryable"]) == ("spec.sites", False)


async def test_a_result_that_cannot_be_accepted_ends_the_attempt(run, database, tenant_id):
    async def accept(session):
        raise ZeroDivisionError

    job = await run(lambda context: JobResult(None, accept), max_attempts=1)
    assert (job.state, job.error["type"]) == ("DEAD_LETTERED", "ZeroDivisionError")
    async with tenant_session(database, tenant_id) as session:
        assert (await session.scalars(select(Job.state))).all() == ["DEAD_LETTERED"]
