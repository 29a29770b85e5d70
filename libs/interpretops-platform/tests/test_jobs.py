"""The protocol of jobs against a real PostgreSQL: what each step writes, and who may take it."""

import asyncio

import pytest
import pytest_asyncio
from interpretops_platform.database.engine import Database
from interpretops_platform.database.models import Artifact, Job, JobEvent, Outbox
from interpretops_platform.database.session import system_session, tenant_session
from interpretops_platform.errors import IdempotencyConflictError, NotFoundError, PlatformError
from interpretops_platform.jobs import lease as leases
from interpretops_platform.jobs.cancel import cancel
from interpretops_platform.jobs.lease import LeaseLostError
from interpretops_platform.jobs.reaper import Reaped, reap, sweep
from interpretops_platform.jobs.relay import BrokerError, relay
from interpretops_platform.jobs.states import JobState
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.jobs.watch import get_job, watch
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

KINDS = ("trace",)


class ListBroker:
    """A broker in memory, which can be made to refuse."""

    def __init__(self):
        self.sent, self.left, self.waiting = [], None, 0

    def send(self, queue, job_id, priority):
        if self.left == 0:
            raise BrokerError("full")
        if self.left is not None:
            self.left -= 1
        self.sent.append((queue, job_id, priority))

    def depth(self, queue):
        return self.waiting


@pytest_asyncio.fixture
async def impatient_database(settings):
    """The same database, whose sessions may idle for a second in a transaction."""
    impatient = settings.database.model_copy(update={"idle_in_transaction_seconds": 1})
    pools = Database(settings.model_copy(update={"database": impatient}), name="impatient")
    yield pools
    await pools.close()


@pytest.fixture
def new_job(database, tenant_id):
    async def _new_job(**request):
        async with tenant_session(database, tenant_id) as session:
            request = JobRequest(**{"kind": "trace", "spec": {"n": 1}} | request)
            return (await submit(session, tenant_id, request)).job.id

    return _new_job


@pytest.fixture
def stored(database, tenant_id):
    async def _stored(job_id):
        async with tenant_session(database, tenant_id) as session:
            return await get_job(session, job_id)

    return _stored


@pytest.fixture
def claim(database):
    async def _claim(job_id, owner="worker-1", seconds=30.0):
        return await leases.claim(database, job_id, kinds=KINDS, owner=owner, lease_seconds=seconds)

    return _claim


@pytest.fixture
def in_session(database, tenant_id):
    async def _in_session(step, *arguments, **options):
        async with tenant_session(database, tenant_id) as session:
            return await step(session, *arguments, **options)

    return _in_session


async def _outbox(database):
    async with system_session(database) as session:
        return (await session.scalars(select(Outbox).order_by(Outbox.id))).all()


async def _types(database, tenant_id, job_id):
    async with tenant_session(database, tenant_id) as session:
        query = select(JobEvent.type).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
        return (await session.scalars(query)).all()


async def test_a_job_its_event_and_its_hint_are_accepted_together(database, tenant_id, new_job):
    job_id = await new_job()
    assert [row.job_id for row in await _outbox(database)] == [job_id]
    assert await _types(database, tenant_id, job_id) == ["queued"]


async def test_nothing_is_accepted_when_the_callers_transaction_fails(database, tenant_id):
    with pytest.raises(ZeroDivisionError):
        async with tenant_session(database, tenant_id) as session:
            await submit(session, tenant_id, JobRequest(kind="trace"))
            raise ZeroDivisionError
    async with system_session(database) as session:
        assert (await session.scalars(select(Job))).all() == []
    assert await _outbox(database) == []


async def test_one_key_is_one_job_even_when_ten_submit_at_once(database, tenant_id, new_job):
    ids = await asyncio.gather(*(new_job(idempotency_key="k") for _ in range(10)))
    assert len(set(ids)) == 1
    assert len(await _outbox(database)) == 1


async def test_a_key_reused_for_another_request_is_refused(new_job):
    await new_job(idempotency_key="k")
    with pytest.raises(IdempotencyConflictError, match="'k'"):
        await new_job(idempotency_key="k", spec={"n": 2})


async def test_keys_of_two_tenants_do_not_meet(database, tenant_id, other_tenant_id, new_job):
    ours = await new_job(idempotency_key="k")
    async with tenant_session(database, other_tenant_id) as session:
        theirs = await submit(
            session, other_tenant_id, JobRequest(kind="trace", idempotency_key="k")
        )
    assert theirs.created
    assert theirs.job.id != ours


@pytest.mark.parametrize("value", ["\x00", "\ud800", float("nan"), float("inf")])
async def test_what_cannot_be_stored_is_refused_before_the_database_sees_it(new_job, value):
    with pytest.raises(PlatformError, match="cannot be stored"):
        await new_job(spec={"text": value})


async def test_a_backslash_is_no_nul(new_job, stored):
    job_id = await new_job(spec={"text": r"\u0000"})
    assert (await stored(job_id)).spec == {"text": r"\u0000"}


async def test_a_job_is_claimed_once(new_job, claim, stored):
    job_id = await new_job()
    claims = await asyncio.gather(*(claim(job_id, owner=f"worker-{i}") for i in range(8)))
    taken = [one for one in claims if one is not None]
    assert len(taken) == 1
    assert (taken[0].lease.token, taken[0].spec) == (1, {"n": 1})
    assert (await stored(job_id)).lease_owner == taken[0].lease.owner


async def test_a_hint_of_another_kind_or_of_nothing_is_ignored(database, new_job, claim):
    assert await claim("job_that_never_was") is None
    assert await claim(await new_job(kind="sae")) is None


async def test_a_silent_holder_is_overtaken_and_fenced(new_job, claim, in_session, stored):
    job_id = await new_job()
    first = (await claim(job_id, owner="first", seconds=-1)).lease
    second = (await claim(job_id, owner="second")).lease
    assert (first.token, second.token) == (1, 2)
    late_writes = [
        (leases.heartbeat, {"lease_seconds": 30, "progress": {"done": 1}}),
        (leases.finish, {}),
        (leases.hand_back, {}),
        (leases.stop_cancelled, {}),
    ]
    for step, options in late_writes:
        with pytest.raises(LeaseLostError):
            await in_session(step, first, **options)
    with pytest.raises(LeaseLostError):
        await in_session(leases.save_checkpoint, first, "file:///late")
    with pytest.raises(LeaseLostError):
        await in_session(leases.fail, first, {}, retry=True, retry_seconds=1)
    job = await stored(job_id)
    assert (job.state, job.progress, job.checkpoint_uri) == ("RUNNING", None, None)
    assert await in_session(leases.finish, second)


@pytest.mark.parametrize("ending", ["reaped", "handed back", "failed", "over"])
async def test_a_lease_that_ended_is_lost_even_before_anyone_else_takes_the_job(
    database, new_job, claim, in_session, stored, ending
):
    job_id = await new_job()
    lease = (await claim(job_id, seconds=-1)).lease
    if ending == "reaped":
        assert await reap(database) == Reaped(requeued=1)
    elif ending == "handed back":
        await in_session(leases.hand_back, lease)
    elif ending == "failed":
        await in_session(leases.fail, lease, {}, retry=True, retry_seconds=1)
    else:
        await in_session(leases.stop_cancelled, lease)
    before = await stored(job_id)
    for step in (leases.finish, leases.hand_back, leases.stop_cancelled):
        with pytest.raises(LeaseLostError):
            await in_session(step, lease)
    with pytest.raises(LeaseLostError):
        await in_session(leases.heartbeat, lease, lease_seconds=30)
    after = await stored(job_id)
    assert (after.state, after.finished_at) == (before.state, before.finished_at)


async def test_a_heartbeat_keeps_the_lease_and_publishes_progress(
    new_job, claim, in_session, stored, database, tenant_id
):
    job_id = await new_job()
    lease = (await claim(job_id, seconds=-1)).lease
    assert not await in_session(
        leases.heartbeat, lease, lease_seconds=30, progress={"done": 1, "total": 2}
    )
    assert await reap(database) == Reaped()
    assert (await stored(job_id)).progress == {"done": 1, "total": 2}
    assert await _types(database, tenant_id, job_id) == ["queued", "started", "progress"]


async def test_the_result_is_accepted_with_the_end_of_the_job_or_not_at_all(
    new_job, claim, database, tenant_id, stored
):
    def artifact(name):
        digest = "0" * 64
        return Artifact(
            tenant_id=tenant_id, id=name, kind="trace", schema_version=1, sha256=digest,
            spec_hash=digest, manifest={}, object_uri="", size=0,
        )  # fmt: skip

    job_id = await new_job()
    lease = (await claim(job_id)).lease
    with pytest.raises(ZeroDivisionError):
        async with tenant_session(database, tenant_id) as session:
            await leases.finish(session, lease, result_artifact_id="tr_1")
            session.add(artifact("tr_1"))
            raise ZeroDivisionError
    assert (await stored(job_id)).state == "RUNNING"
    async with tenant_session(database, tenant_id) as session:
        assert await leases.finish(session, lease, result_artifact_id="tr_1")
        session.add(artifact("tr_1"))
    job = await stored(job_id)
    assert (job.state, job.result_artifact_id) == ("SUCCEEDED", "tr_1")


async def test_a_result_that_does_not_exist_is_refused(new_job, claim, in_session, stored):
    job_id = await new_job()
    lease = (await claim(job_id)).lease
    with pytest.raises(Exception, match="fk_jobs_result"):
        await in_session(leases.finish, lease, result_artifact_id="tr_missing")
    assert (await stored(job_id)).state == "RUNNING"


async def test_finishing_again_after_a_lost_answer_changes_nothing(
    new_job, claim, in_session, database, tenant_id
):
    job_id = await new_job()
    lease = (await claim(job_id)).lease
    assert await in_session(leases.finish, lease)
    assert not await in_session(leases.finish, lease)
    assert await _types(database, tenant_id, job_id) == ["queued", "started", "succeeded"]


async def test_a_failed_attempt_is_tried_again_later_and_then_buried(
    new_job, claim, in_session, stored
):
    job_id = await new_job(max_attempts=2)
    lease = (await claim(job_id)).lease
    state = await in_session(
        leases.fail, lease, {"problem": "first"}, retry=True, retry_seconds=3600
    )
    assert state is JobState.QUEUED
    assert await claim(job_id) is None, "before the delay is over"
    await in_session(_due)
    lease = (await claim(job_id)).lease
    state = await in_session(leases.fail, lease, {"problem": "last"}, retry=True, retry_seconds=1)
    assert state is JobState.DEAD_LETTERED
    job = await stored(job_id)
    assert (job.error["problem"], job.error["attempt"]) == ("last", 2)
    assert await claim(job_id) is None


async def _due(session):
    await session.execute(text("UPDATE jobs SET available_at = now()"))


async def test_a_mistake_of_the_caller_is_not_tried_again(new_job, claim, in_session, stored):
    job_id = await new_job()
    lease = (await claim(job_id)).lease
    state = await in_session(leases.fail, lease, {"problem": "x"}, retry=False, retry_seconds=1)
    assert state is JobState.FAILED
    assert (await stored(job_id)).state == "FAILED"


async def test_handing_back_costs_no_attempt(new_job, claim, in_session):
    job_id = await new_job(max_attempts=1)
    for token in range(1, 6):
        lease = (await claim(job_id)).lease
        assert lease.token == token
        await in_session(leases.hand_back, lease)
    lease = (await claim(job_id)).lease
    state = await in_session(leases.fail, lease, {}, retry=True, retry_seconds=1)
    assert state is JobState.DEAD_LETTERED


async def test_a_checkpoint_reaches_the_next_attempt(new_job, claim, in_session):
    job_id = await new_job()
    lease = (await claim(job_id)).lease
    await in_session(leases.save_checkpoint, lease, "file:///half")
    await in_session(leases.hand_back, lease)
    assert (await claim(job_id)).checkpoint_uri == "file:///half"


async def test_the_reaper_requeues_expired_leases_and_buries_poison(
    database, tenant_id, new_job, claim, stored
):
    job_id = await new_job(max_attempts=2)
    await claim(job_id, seconds=-1)
    assert await reap(database) == Reaped(requeued=1)
    assert (await stored(job_id)).state == "QUEUED"
    await claim(job_id, seconds=-1)
    assert await reap(database) == Reaped(dead_lettered=1)
    assert (await stored(job_id)).error["type"] == "LeaseExpired"
    assert await reap(database) == Reaped()
    types = await _types(database, tenant_id, job_id)
    assert types == ["queued", "started", "lease_expired", "started", "dead_lettered"]


async def test_two_reapers_count_every_job_once(database, new_job, claim):
    for _ in range(30):
        await claim(await new_job(), seconds=-1)
    results = await asyncio.gather(*(reap(database) for _ in range(3)))
    assert sum(one.requeued for one in results) == 30
    assert await reap(database) == Reaped()


async def test_a_queued_job_is_cancelled_at_once(database, new_job, claim, in_session, stored):
    job_id = await new_job()
    assert await in_session(cancel, job_id) is JobState.CANCELLED
    assert await in_session(cancel, job_id) is JobState.CANCELLED
    assert (await stored(job_id)).state == "CANCELLED"
    assert await claim(job_id) is None


async def test_a_running_job_learns_of_its_cancellation(
    database, tenant_id, new_job, claim, in_session, stored
):
    job_id = await new_job()
    lease = (await claim(job_id)).lease
    assert await in_session(cancel, job_id) is JobState.RUNNING
    assert await in_session(leases.heartbeat, lease, lease_seconds=30)
    await in_session(leases.stop_cancelled, lease)
    assert (await stored(job_id)).state == "CANCELLED"
    types = await _types(database, tenant_id, job_id)
    assert types == ["queued", "started", "cancel_requested", "cancelled"]


@pytest.mark.parametrize("silent", [True, False])
async def test_a_cancelled_job_is_not_tried_again(
    database, new_job, claim, in_session, stored, silent
):
    job_id = await new_job()
    lease = (await claim(job_id, seconds=-1)).lease
    await in_session(cancel, job_id)
    if silent:
        assert await claim(job_id, owner="second") is None
        assert await reap(database) == Reaped(cancelled=1)
    else:
        await in_session(leases.fail, lease, {}, retry=True, retry_seconds=1)
    assert (await stored(job_id)).state == "CANCELLED"


async def test_another_tenants_job_does_not_exist(database, new_job, other_tenant_id, settings):
    job_id = await new_job()
    async with tenant_session(database, other_tenant_id) as session:
        for step in (cancel, get_job):
            with pytest.raises(NotFoundError):
                await step(session, job_id)
    with pytest.raises(NotFoundError):
        async for _ in watch(database, other_tenant_id, job_id, poll_seconds=0.05):
            pass


async def test_a_forged_lease_of_another_tenant_writes_nothing(
    database, new_job, claim, other_tenant_id, stored
):
    job_id = await new_job()
    lease = (await claim(job_id)).lease
    with pytest.raises(LeaseLostError):
        async with tenant_session(database, other_tenant_id) as session:
            await leases.finish(session, lease)
    assert (await stored(job_id)).state == "RUNNING"


async def test_the_relay_sends_the_urgent_first_and_each_hint_once(database, new_job):
    broker = ListBroker()
    late, urgent = await new_job(priority=9), await new_job(priority=0)
    assert await relay(database, broker, hint_seconds=30) == 2
    assert broker.sent == [("trace", urgent, 0), ("trace", late, 9)]
    assert await relay(database, broker, hint_seconds=30) == 0


async def test_relays_side_by_side_share_the_work(database, new_job):
    ids = {await new_job() for _ in range(40)}
    brokers = [ListBroker() for _ in range(4)]
    sent = await asyncio.gather(*(relay(database, one, hint_seconds=30) for one in brokers))
    assert sum(sent) == 40
    hints = [job_id for broker in brokers for _, job_id, _ in broker.sent]
    assert sorted(hints) == sorted(ids)


async def test_a_relay_frozen_in_its_transaction_loses_its_locks(
    database, impatient_database, new_job
):
    job_id = await new_job()
    broker = ListBroker()
    async with impatient_database.system() as frozen:
        await frozen.execute(select(Outbox.id).with_for_update())
        assert await relay(database, broker, hint_seconds=30) == 0
        for _ in range(400):
            if await relay(database, broker, hint_seconds=30):
                break
            await asyncio.sleep(0.05)
        assert broker.sent == [("trace", job_id, 5)]
        with pytest.raises(DBAPIError):
            await frozen.execute(select(Outbox.id))


async def test_a_broker_that_refuses_gets_the_rest_later(database, new_job):
    ids = [await new_job() for _ in range(5)]
    broker = ListBroker()
    broker.left = 2
    with pytest.raises(BrokerError):
        await relay(database, broker, hint_seconds=30)
    broker.left = None
    assert await relay(database, broker, hint_seconds=30) == 3
    assert [job_id for _, job_id, _ in broker.sent] == ids


async def test_a_lost_hint_is_repeated_only_where_the_queue_is_empty(database, new_job, claim):
    job_id = await new_job()
    broker = ListBroker()
    await relay(database, broker, hint_seconds=30)
    await _age_hints(database)
    broker.waiting = 1
    assert await relay(database, broker, hint_seconds=30) == 0
    broker.waiting = 0
    assert await relay(database, broker, hint_seconds=30) == 1
    await claim(job_id)
    await _age_hints(database)
    assert await relay(database, broker, hint_seconds=30) == 0


async def _age_hints(database):
    async with system_session(database) as session:
        await session.execute(text("UPDATE outbox SET sent_at = sent_at - interval '1 hour'"))


async def test_a_delayed_job_is_announced_when_its_time_has_come(
    database, new_job, claim, in_session
):
    job_id = await new_job()
    lease = (await claim(job_id)).lease
    await in_session(leases.fail, lease, {}, retry=True, retry_seconds=3600)
    broker = ListBroker()
    assert await relay(database, broker, hint_seconds=30) == 0
    await in_session(_due)
    assert await relay(database, broker, hint_seconds=30) == 1
    assert len(broker.sent) == 1


async def test_hints_that_served_are_swept_and_others_stay(database, new_job, claim):
    served, waiting = await new_job(), await new_job()
    await claim(served)
    assert await sweep(database) == 1
    assert [row.job_id for row in await _outbox(database)] == [waiting]


async def test_a_watcher_sees_everything_once_and_can_resume(
    database, tenant_id, new_job, claim, in_session
):
    job_id = await new_job()

    async def follow(after=0):
        seen = watch(database, tenant_id, job_id, after=after, poll_seconds=0.02)
        return [event async for event in seen]

    following = asyncio.create_task(follow())
    lease = (await claim(job_id)).lease
    for done in range(3):
        await in_session(leases.heartbeat, lease, lease_seconds=30, progress={"done": done})
    await in_session(leases.finish, lease)
    events = await asyncio.wait_for(following, 20)
    assert [event.type for event in events] == [
        "queued", "started", "progress", "progress", "progress", "succeeded",
    ]  # fmt: skip
    assert await follow(after=events[2].cursor) == events[3:]
    assert await follow(after=events[-1].cursor) == []


def test_a_request_names_a_sound_kind():
    for kind in ("Trace", "a b", "", "x" * 40, "1a", "../x"):
        with pytest.raises(ValueError, match="kind"):
            JobRequest(kind=kind)
