"""Requests are counted where they are answered, add up over replicas, and are compared."""

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from interpretops.drift import Traffic
from interpretops.steering import traffic_of
from interpretops_platform import policies
from interpretops_platform.database.models import Alarm, TrafficWindow
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.problems import problem_of
from interpretops_platform.security.principal import Role
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.traffic import hour_of, save_window
from interpretops_platform.watch_settings import WatchSettings
from interpretops_protos.v1 import drift_pb2, drift_service_pb2, drift_service_pb2_grpc
from interpretops_steering_gateway.artifacts import TenantArtifacts
from interpretops_steering_gateway.drift import Asked, Comparer, DriftMetrics, compare_all
from interpretops_steering_gateway.traffic import TrafficRecorder
from prometheus_client import generate_latest
from sqlalchemy import select

HOUR = timedelta(hours=1)
GATE = {
    "condition": {"probe": [{"layer": 0, "vector": "v.safetensors#c"}], "threshold": 0.0},
}
USUAL = [f"Tell me about the number {i}, please." for i in range(12)]
OTHER = [f"{i} ⊕⊗ ☃" * 3 for i in range(12)]


async def rows_of(installation):
    async with tenant_session(installation.database, installation.tenant_id) as session:
        return (await session.scalars(select(TrafficWindow))).all()


@pytest.fixture
def quick(installation):
    """Traffic that is written at once."""
    watch = WatchSettings(flush_seconds=0.05, compare_seconds=3600, least_requests=10)
    installation.settings = installation.settings.model_copy(update={"watch": watch})


async def test_what_is_served_is_counted_and_nothing_else(open_gateway, installation, quick):
    async with open_gateway() as gateway:
        policy = gateway.policy(**GATE)
        await gateway.activate("gated", policy)
        for prompt in USUAL:
            await gateway.generate(prompt, policy_id="gated", max_new_tokens=2)
        await gateway.generate(USUAL[0], policy_id="gated", shadow=True, max_new_tokens=2)
        await gateway.generate(USUAL[0])  # bare: no policy saw it
        await gateway.load(gateway.policy("tried", **GATE))
        await gateway.generate(USUAL[0], policy_id="tried")  # by hand: not in production
        async with asyncio.timeout(30):
            while sum(row.requests for row in await rows_of(installation)) < 13:
                await asyncio.sleep(0.05)
    (row,) = await rows_of(installation)
    found = Traffic.model_validate(row.body)
    wanted = traffic_of(gateway.model, policy, [*USUAL, USUAL[0]], dictionary=None, chat=False)
    assert found.requests == row.requests == 13
    assert found.fired == wanted.fired
    assert found.margins.n == 13
    # One bucket of rounding at most, as batches of another shape give other last bits.
    assert abs(found.margins.quantile(0.5) - wanted.margins.quantile(0.5)) < 0.05
    assert "number" not in str(row.body)


async def test_replicas_add_up_and_drift_opens_an_alarm(open_gateway, installation, quick):
    async with open_gateway() as gateway:
        policy = gateway.policy(**GATE)
        await gateway.activate("gated", policy)
        usual = traffic_of(gateway.model, policy, USUAL, dictionary=None, chat=False)
        moved = traffic_of(gateway.model, policy, OTHER, dictionary=None, chat=False)
    tenant_id, database = installation.tenant_id, installation.database
    async with tenant_session(database, tenant_id) as session:
        version = await policies.active(session, "gated")
    now = hour_of(datetime.now(UTC))

    async def write(hour, replica, traffic, times):
        many = Traffic()
        for _ in range(times):
            many.merge(traffic)
        async with tenant_session(database, tenant_id) as session:
            await save_window(
                session,
                tenant_id,
                policy_id=version.id,
                hour=hour,
                replica=replica,
                requests=many.requests,
                body=many.model_dump(mode="json"),
            )

    artifacts = TenantArtifacts(installation.settings, database)
    settings = WatchSettings(least_requests=100, reference_requests=120, window_hours=6)
    comparer, metrics = Comparer(database, artifacts, settings), Metrics()
    shown = DriftMetrics(metrics)

    async def round_():
        found = await compare_all(database, comparer)
        shown.show(found)
        async with tenant_session(database, tenant_id) as session:
            open_ = await session.scalars(select(Alarm.kind).where(Alarm.closed_at.is_(None)))
            return found[0], list(open_)

    # Its first traffic is the reference, as nobody measured one when it was written.
    for replica in ("a", "b"):
        await write(now - 10 * HOUR, replica, usual, 5)
    compared, alarms = await round_()
    assert compared.reference == "traffic"
    assert (compared.report.verdict, alarms) == ("too_few", [])
    for replica in ("a", "b"):
        await write(now - 2 * HOUR, replica, usual, 6)
    compared, alarms = await round_()
    assert compared.report.requests == 144
    assert (compared.report.verdict, alarms) == ("stable", [])
    await write(now - HOUR, "b", moved, 40)
    compared, alarms = await round_()
    assert (compared.report.verdict, alarms) == ("drifted", ["drift"])
    exposed = generate_latest(metrics.registry).decode()
    assert 'interpretops_policy_drift_level{policy="gated"} 2.0' in exposed
    assert 'interpretops_policy_window_requests_count{policy="gated"} 624.0' in exposed
    await write(now - HOUR, "b", usual, 40)
    _, alarms = await round_()
    assert alarms == []
    asked = Asked("gated", since=now - 10 * HOUR, until=now, reference="window", parts=5,
                  reference_since=now - 10 * HOUR, reference_until=now - 9 * HOUR)  # fmt: skip
    compared = await comparer.compare(tenant_id, asked)
    assert [part.report.requests for part in compared.parts] == [120, 0, 0, 0, 624]
    assert compared.report.verdict == "stable"
    artifacts.close()


async def test_the_contract_tells_it_to_those_who_may_read_policies(
    open_gateway, installation, quick
):
    async with open_gateway() as gateway:
        await gateway.activate("gated", gateway.policy(**GATE))
        await gateway.generate(policy_id="gated", max_new_tokens=1)
        async with asyncio.timeout(30):
            while not await rows_of(installation):
                await asyncio.sleep(0.05)
        async with installation.channel("steering_gateway") as channel:
            stub = channel(drift_service_pb2_grpc.DriftServiceStub)
            request = drift_service_pb2.CompareTrafficRequest(policy="gated", parts=4)
            with gateway.acting(Role.VIEWER):
                told = await stub.CompareTraffic(request)
            assert (told.policy, told.version, told.model) == ("gated", 1, "tiny")
            assert told.report.verdict == drift_pb2.DRIFT_VERDICT_TOO_FEW
            assert told.report.limits.psi_drift == 0.25
            assert len(told.parts) == 4
            assert "the reference has 0 and the window 1" in told.report.reasons[0]
            with gateway.acting(), pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.CompareTraffic(drift_service_pb2.CompareTrafficRequest(policy="none"))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            backwards = drift_service_pb2.CompareTrafficRequest(policy="gated")
            backwards.since.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
            backwards.until.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
            with gateway.acting(), pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.CompareTraffic(backwards)
            assert problem_of(caught.value).field == "since"


async def test_while_the_database_is_away_the_oldest_hours_go(installation, monkeypatch):
    from interpretops.steering import RowRecord
    from interpretops_steering_gateway import traffic

    monkeypatch.setattr(traffic, "MOST", 2)
    metrics = Metrics()
    recorder = TrafficRecorder(installation.database, metrics)
    for name in ("pv_1", "pv_2", "pv_3"):
        recorder.saw(installation.tenant_id, name, RowRecord("p", 1.0, True, (), 0.5))
    assert (
        "interpretops_traffic_windows_lost_total 1.0" in generate_latest(metrics.registry).decode()
    )
    await recorder.write()  # of versions that are not there: forgotten, and no error
    assert not recorder._seen
