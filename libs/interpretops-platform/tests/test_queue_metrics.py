"""An operator sees how much waits, for how long, and what was lost."""

import asyncio
import urllib.request

import pytest
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.keeper import keep_jobs_moving
from interpretops_platform.jobs.lease import claim
from interpretops_platform.jobs.observe import QueueMetrics
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.telemetry.metrics import Metrics


class Broker:
    """Takes no hint, so that they stay unsent."""

    def send(self, queue, job_id, priority):
        from interpretops_platform.jobs.relay import BrokerError

        raise BrokerError("away")

    def depth(self, queue):
        return 1


@pytest.fixture
def shown():
    metrics = Metrics()
    queues = QueueMetrics(metrics, ["trace", "sae"])

    def _value(name, **labels):
        return metrics.registry.get_sample_value(f"interpretops_{name}", labels)

    return metrics, queues, _value


async def submitted(database, tenant_id, *kinds):
    async with tenant_session(database, tenant_id) as session:
        return [(await submit(session, tenant_id, JobRequest(kind=kind))).job.id for kind in kinds]


async def test_queues_are_counted_by_kind(database, tenant_id, shown):
    _, queues, value = shown
    jobs = await submitted(database, tenant_id, "trace", "trace", "sae", "odd_1", "odd_2")
    await claim(database, jobs[0], kinds=["trace"], owner="w", lease_seconds=30)
    await queues.look(database)
    waiting = [value("jobs_waiting_count", kind=kind) for kind in ("trace", "sae", "other")]
    assert waiting == [1, 1, 2]
    assert value("jobs_running_count", kind="trace") == 1
    assert value("jobs_oldest_waiting_seconds", kind="sae") > 0
    assert value("outbox_unsent_count") == 4
    assert value("outbox_lag_seconds") > 0
    for job in jobs[1:]:
        kinds = ["trace", "sae", "odd_1", "odd_2"]
        assert await claim(database, job, kinds=kinds, owner="w", lease_seconds=30)
    await queues.look(database)
    assert [value("jobs_waiting_count", kind=kind) for kind in ("trace", "other")] == [0, 0]
    assert value("jobs_oldest_waiting_seconds", kind="sae") == 0


async def test_the_keeper_shows_them_by_http(database, settings, tenant_id, shown):
    metrics, queues, value = shown
    [job] = await submitted(database, tenant_id, "trace")
    await claim(database, job, kinds=["trace"], owner="w", lease_seconds=0.01)
    exposition = metrics.expose("127.0.0.1", 0)
    stop = asyncio.Event()
    keeping = asyncio.create_task(keep_jobs_moving(database, Broker(), settings.jobs, stop, queues))
    async with asyncio.timeout(20):
        while not value("leases_expired_total", outcome="requeued"):
            await asyncio.sleep(0.05)
    url = f"http://127.0.0.1:{exposition.port}/metrics"
    text = (await asyncio.to_thread(urllib.request.urlopen, url)).read().decode()
    assert 'interpretops_leases_expired_total{outcome="requeued"} 1.0' in text
    assert str(tenant_id) not in text
    stop.set()
    await keeping
    exposition.close()
