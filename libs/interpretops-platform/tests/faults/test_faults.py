"""Whatever dies, freezes or forgets: nothing accepted is lost, and nothing is done twice."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter

import psutil
import pytest
import redis
from interpretops_platform.database.models import JobEvent
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.cancel import cancel
from interpretops_platform.jobs.states import JobState
from sqlalchemy import select

from .conftest import child_of

QUICK = {"steps": 1, "seconds": 0.01}
SLOW = {"steps": 400, "seconds": 0.05}


async def test_a_killed_child_loses_no_job(platform):
    platform.start_worker()
    job_id = await platform.submit("steps", {"steps": 20, "seconds": 0.05})
    await platform.until_noted(job_id, "step 2")
    os.kill(child_of(await platform.job(job_id)), signal.SIGKILL)
    await platform.until_over([job_id])
    await platform.check_history([job_id])
    assert (await platform.job(job_id)).attempt == 2


async def test_a_killed_worker_loses_no_job(platform):
    worker = platform.start_worker()
    job_id = await platform.submit("steps", {"steps": 20, "seconds": 0.05})
    await platform.until_noted(job_id, "step 2")
    worker.kill()
    platform.start_worker()
    await platform.until_over([job_id])
    await platform.check_history([job_id])


@pytest.mark.parametrize("successor_is_done", [False, True])
async def test_a_frozen_worker_that_wakes_overwrites_nothing(platform, tmp_path, successor_is_done):
    gate = tmp_path / "gate"
    platform.start_worker()
    job_id = await platform.submit("stall", {"gate": str(gate)})
    await platform.until_noted(job_id, "started")
    frozen = child_of(await platform.job(job_id))
    os.kill(frozen, signal.SIGSTOP)
    second = platform.start_worker()
    await platform.until_noted(job_id, "started", attempt=2)
    if successor_is_done:
        (tmp_path / "gate-2").touch()
        await platform.until_over([job_id])
        second.kill()

    (tmp_path / "gate-1").touch()
    os.kill(frozen, signal.SIGCONT)
    await platform.until_noted(job_id, "through the gate")
    # It is through with the old job once it has done a new one; the other worker is busy or dead.
    next_id = await platform.submit("steps", QUICK)
    await platform.until_over([next_id])
    assert child_of(await platform.job(next_id)) == frozen
    if not successor_is_done:
        assert (await platform.job(job_id)).state == "RUNNING"
        (tmp_path / "gate-2").touch()
        await platform.until_over([job_id])
    assert (await platform.job(job_id)).result_artifact_id == f"tr_{job_id}_2"
    await platform.check_history([job_id, next_id])


async def test_an_emptied_redis_loses_no_job(platform, valkey):
    waiting = [await platform.submit("steps", QUICK) for _ in range(10)]
    await platform.until(lambda: platform.broker.depth("steps") == 10, "ten hints in the queue")
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
        platform.start_worker()
        await platform.until_over(waiting)
        client.flushall()
    later = [await platform.submit("steps", QUICK) for _ in range(5)]
    await platform.until_over(later)
    await platform.check_history(waiting + later)


async def test_a_killed_and_restarted_redis_loses_no_job(platform, valkey):
    platform.start_worker()
    jobs = [await platform.submit("steps", {"steps": 5, "seconds": 0.05}) for _ in range(6)]
    await platform.until_noted(jobs[0], "step 1")
    await asyncio.to_thread(valkey.stop, immediate=True)
    jobs += [await platform.submit("steps", QUICK) for _ in range(4)]
    await asyncio.to_thread(valkey.start)
    await platform.until_over(jobs)
    await platform.check_history(jobs)


async def test_a_crashed_postgres_loses_nothing_it_accepted(platform, postgres):
    platform.start_worker()
    first = await platform.submit("steps", {"steps": 10, "seconds": 0.05})
    await platform.until_noted(first, "step 1")

    async def keep_submitting():
        return [await platform.submit("steps", QUICK) for _ in range(60)]

    submitting = asyncio.create_task(keep_submitting())
    for _ in range(3):
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.stop, immediate=True)
        await asyncio.to_thread(postgres.start)
    jobs = [first, *await submitting]
    assert len(set(jobs)) == 61
    await platform.until_over(jobs)
    await platform.check_history(jobs)


async def test_a_result_waits_for_a_database_that_is_away(platform, postgres, tmp_path):
    platform.change_jobs(lease_seconds=120)
    platform.start_worker()
    job_id = await platform.submit("stall", {"gate": str(tmp_path / "gate")})
    await platform.until_noted(job_id, "started")
    await asyncio.to_thread(postgres.stop, immediate=True)
    (tmp_path / "gate-1").touch()
    await platform.until_noted(job_id, "through the gate")
    await asyncio.to_thread(postgres.start)
    await platform.until_over([job_id])
    assert (await platform.job(job_id)).attempt == 1
    await platform.check_history([job_id])


async def test_a_hint_delivered_many_times_is_work_done_once(platform):
    platform.start_worker()
    platform.start_worker()
    job_id = await platform.submit("steps", {"steps": 10, "seconds": 0.05})
    for _ in range(30):
        await asyncio.to_thread(platform.broker.send, "steps", job_id, 5)
    await platform.until_over([job_id])
    await platform.until(lambda: platform.broker.depth("steps") == 0, "every hint taken")
    last = await platform.submit("steps", QUICK, priority=9)
    await platform.until_over([last])
    assert Counter(note["what"] for note in platform.notes(job_id))["started"] == 1
    await platform.check_history([job_id, last])


async def test_two_keepers_do_the_work_of_one(platform):
    platform.start_keeper()
    platform.start_worker()
    platform.start_worker()
    jobs = [await platform.submit("steps", QUICK) for _ in range(40)]
    await platform.until_over(jobs)
    await platform.check_history(jobs)
    starts = Counter(note["job"] for note in platform.notes() if note["what"] == "started")
    assert starts == dict.fromkeys(jobs, 1)


async def test_keepers_that_are_killed_or_frozen_stop_nothing(platform):
    await platform.stop_own_keepers()
    killed, frozen, last = (platform.start_keeper_process() for _ in range(3))
    platform.start_worker()
    jobs = [await platform.submit("steps", QUICK) for _ in range(10)]
    await platform.until_over(jobs)
    killed.kill()
    jobs += [await platform.submit("steps", QUICK) for _ in range(20)]
    os.kill(frozen.process.pid, signal.SIGSTOP)
    jobs += [await platform.submit("steps", QUICK) for _ in range(20)]
    await platform.until_over(jobs)
    await platform.check_history(jobs)
    os.kill(frozen.process.pid, signal.SIGCONT)
    more = [await platform.submit("steps", QUICK) for _ in range(5)]
    await platform.until_over(more)
    for keeper in (frozen, last):
        keeper.terminate()
        assert await asyncio.to_thread(keeper.process.wait, 60) == 0


async def test_a_handler_that_hangs_is_killed_and_buried(platform, tmp_path):
    platform.change_jobs(time_limit_seconds=1)
    platform.start_worker()
    hangs = await platform.submit("stall", {"gate": str(tmp_path / "never")}, max_attempts=1)
    fine = await platform.submit("steps", QUICK)
    await platform.until_over([hangs, fine])
    assert (await platform.job(hangs)).state == "DEAD_LETTERED"
    assert (await platform.job(fine)).state == "SUCCEEDED"


async def test_a_running_job_is_cancelled_at_a_step(platform):
    platform.start_worker()
    job_id = await platform.submit("steps", SLOW)
    await platform.until_noted(job_id, "step 1")
    async with tenant_session(platform.database, platform.tenant_id) as session:
        assert await cancel(session, job_id) is JobState.RUNNING
    await platform.until_over([job_id])
    await platform.check_history([job_id], expected=JobState.CANCELLED)


async def test_poison_is_buried_and_the_others_get_through(platform):
    platform.start_worker()
    poison = await platform.submit("poison", {}, max_attempts=2)
    others = [await platform.submit("steps", QUICK) for _ in range(5)]
    await platform.until_over([poison, *others])
    job = await platform.job(poison)
    assert (job.state, job.attempt, job.error["type"]) == ("DEAD_LETTERED", 2, "LeaseExpired")
    assert [note["what"] for note in platform.notes(poison)] == ["started"] * 2
    states = {(await platform.job(other)).state for other in others}
    assert states == {"SUCCEEDED"}


async def test_failures_are_tried_again_and_mistakes_are_not(platform):
    platform.start_worker()
    flaky = await platform.submit("flaky", {"failures": 2})
    hopeless = await platform.submit("flaky", {"failures": 9}, max_attempts=2)
    mistake = await platform.submit("mistake", {})
    dangling = await platform.submit("dangling", {}, max_attempts=1)
    await platform.until_over([flaky, hopeless, mistake, dangling])
    job = await platform.job(flaky)
    assert (job.state, job.attempt, job.error) == ("SUCCEEDED", 3, None)
    job = await platform.job(hopeless)
    assert (job.state, job.attempt, job.error["type"]) == ("DEAD_LETTERED", 2, "RuntimeError")
    assert "password" not in str(job.error)
    job = await platform.job(mistake)
    assert (job.state, job.attempt, job.error["fix"]) == ("FAILED", 1, "name another one")
    job = await platform.job(dangling)
    assert (job.state, job.error["type"]) == ("DEAD_LETTERED", "IntegrityError")


async def test_a_worker_that_shuts_down_hands_its_work_back(platform):
    worker = platform.start_worker()
    job_id = await platform.submit("steps", {"steps": 60, "seconds": 0.05, "checkpoint": True})
    await platform.until_noted(job_id, "step 3")
    worker.terminate()
    assert await asyncio.to_thread(worker.process.wait, 60) == 0
    job = await platform.job(job_id)
    assert (job.state, job.attempt, job.handed_back) == ("QUEUED", 1, 1)
    platform.start_worker()
    await platform.until_over([job_id])
    await platform.check_history([job_id])
    steps = [note["what"] for note in platform.notes(job_id) if note["what"] != "started"]
    assert len(steps) == len(set(steps)) == 60, "no step was done twice or left out"


async def test_a_short_job_is_finished_before_the_worker_shuts_down(platform):
    platform.change_jobs(drain_seconds=60)
    worker = platform.start_worker()
    job_id = await platform.submit("steps", {"steps": 20, "seconds": 0.05})
    await platform.until_noted(job_id, "step 1")
    worker.terminate()
    assert await asyncio.to_thread(worker.process.wait, 60) == 0
    job = await platform.job(job_id)
    assert (job.state, job.attempt) == ("SUCCEEDED", 1)


async def test_progress_is_published_while_the_work_goes_on(platform):
    platform.start_worker()
    job_id = await platform.submit("steps", {"steps": 40, "seconds": 0.05})
    await platform.until_over([job_id])
    query = select(JobEvent.body).where(JobEvent.job_id == job_id, JobEvent.type == "progress")
    reports = [body["done"] for body in await platform.read(query)]
    assert reports == sorted(reports)
    assert len(reports) > 1
    assert (await platform.job(job_id)).progress["done"] == 40


@pytest.mark.parametrize(
    "rounds", [1, pytest.param(10, marks=pytest.mark.faults)], ids=["short", "long"]
)
async def test_a_storm_of_faults_loses_nothing(platform, postgres, valkey, rounds):
    """Random faults over many short jobs, with the seed in the message of a failure."""
    seed = random.SystemRandom().randrange(10**6)
    dice = random.Random(seed)
    for _ in range(2):
        platform.start_worker()

    async def kill_child():
        for child in await asyncio.to_thread(_some_child, platform, dice):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    async def kill_worker():
        dice.choice(platform.workers[-2:]).kill()
        platform.start_worker()

    async def freeze_child():
        for child in await asyncio.to_thread(_some_child, platform, dice):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.suspend()
                await asyncio.sleep(2 * platform.settings.jobs.lease_seconds)
                child.resume()

    async def empty_redis():
        with redis.Redis.from_url(valkey.url) as client:
            client.flushall()

    async def crash_redis():
        await asyncio.to_thread(valkey.stop, immediate=True)
        await asyncio.to_thread(valkey.start)

    async def crash_postgres():
        await asyncio.to_thread(postgres.stop, immediate=True)
        await asyncio.to_thread(postgres.start)

    faults = [kill_child, kill_worker, freeze_child, empty_redis, crash_redis, crash_postgres]
    jobs, history = [], []
    for fault in (fault for _ in range(rounds) for fault in dice.sample(faults, len(faults))):
        history.append(fault.__name__)
        for _ in range(6):
            spec = {"steps": dice.randrange(1, 6), "seconds": 0.02}
            jobs.append(await platform.submit("steps", spec, max_attempts=50))
        await asyncio.sleep(dice.uniform(0.1, 0.6))
        await fault()
    try:
        await platform.until_over(jobs)
        await platform.check_history(jobs)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, faults {history}") from error


def _some_child(platform, dice):
    """The newest child of one of the workers, if it has any just now."""
    worker = dice.choice(platform.workers[-2:]).process.pid
    try:
        return psutil.Process(worker).children()[-1:]
    except psutil.NoSuchProcess:
        return []
