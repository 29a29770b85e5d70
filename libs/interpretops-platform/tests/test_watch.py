"""Traffic adds up over replicas, alarms open once and close by themselves, evidence ages and is renewed."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.json_format import ParseDict
from interpretops_platform import alarms, policies
from interpretops_platform.alarms import AlarmClosedError, AlarmKind
from interpretops_platform.audit import verify
from interpretops_platform.database.models import (
    Alarm,
    Artifact,
    ArtifactParent,
    AuditEntry,
    Job,
    TrafficWindow,
)
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.evidence import EvidenceMetrics, last_canary, look
from interpretops_platform.retention import _expire
from interpretops_platform.security.principal import ForbiddenError, Principal, Role
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.traffic import hour_of, save_window, windows
from interpretops_protos.v1.eval_service_pb2 import SubmitEvaluationRequest
from prometheus_client import generate_latest
from sqlalchemy import func, select, update

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 3, 1, 17, 30, tzinfo=UTC)


def row(tenant_id, name, kind, **more):
    digest = hashlib.sha256(name.encode()).hexdigest()
    values = {"schema_version": 1, "sha256": digest, "spec_hash": digest, "size": 1}
    return Artifact(
        tenant_id=tenant_id,
        id=name,
        kind=kind,
        object_uri=f"file:///{name}",
        **values,
        **{"manifest": {}, **more},
    )


@pytest.fixture
def ann(tenant_id):
    return Principal(tenant_id, "key:ann", {Role.ADMIN}, Role.ADMIN.scopes)


async def activated(session, principal, name="jailbreak", artifact="pol_1"):
    if await session.get(Artifact, (principal.tenant_id, artifact)) is None:
        session.add(row(principal.tenant_id, artifact, "policy"))
        await session.flush()
    made = await policies.create_version(
        session,
        principal.tenant_id,
        name=name,
        model="tiny",
        yaml="meta: {}",
        artifact_id=artifact,
        author="key:bob",
    )
    for step in (policies.propose, policies.approve, policies.activate):
        more = {} if step is policies.propose else {"separation": False}
        await step(session, principal, name, made.version, **more)
    return await policies.active(session, name)


async def test_windows_of_replicas_stand_side_by_side_and_are_written_again(
    database, tenant_id, other_tenant_id, ann
):
    hour = hour_of(NOW)
    assert hour == datetime(2026, 3, 1, 17, tzinfo=UTC)
    async with tenant_session(database, tenant_id) as session:
        policy = await activated(session, ann)
        for replica, count, at in (("a", 1, hour), ("a", 3, hour), ("b", 5, hour - 2 * HOUR)):
            await save_window(
                session,
                tenant_id,
                policy_id=policy.id,
                hour=at,
                replica=replica,
                requests=count,
                body={"requests": count},
            )
    async with tenant_session(database, tenant_id) as session:
        found = await windows(session, policy.id)
        assert [(w.replica, w.requests, w.body["requests"]) for w in found] == [
            ("b", 5, 5),
            ("a", 3, 3),
        ]
        assert [w.replica for w in await windows(session, policy.id, since=hour)] == ["a"]
        assert [w.replica for w in await windows(session, policy.id, until=hour)] == ["b"]
    async with tenant_session(database, other_tenant_id) as session:
        assert not await windows(session, policy.id)


async def test_an_alarm_opens_once_is_acknowledged_and_closes_by_itself(database, tenant_id, ann):
    async with tenant_session(database, tenant_id) as session:
        policy = await activated(session, ann)
        first = await alarms.open_alarm(session, policy, AlarmKind.DRIFT, "it moved", {"psi": 0.3})
        again = await alarms.open_alarm(session, policy, AlarmKind.DRIFT, "further", {"psi": 0.5})
        assert first is not None
        assert again is None
    viewer = Principal(tenant_id, "key:eve", {Role.VIEWER}, Role.VIEWER.scopes)
    async with tenant_session(database, tenant_id) as session:
        with pytest.raises(ForbiddenError):
            await alarms.acknowledge(session, viewer, first.id)
        with pytest.raises(NotFoundError):
            await alarms.acknowledge(session, ann, "al_nothing")
        known = await alarms.acknowledge(session, ann, first.id, "a new client")
        assert (known.acknowledged_by, known.note, known.problem) == (
            "key:ann",
            "a new client",
            "further",
        )
        twice = await alarms.acknowledge(session, ann, first.id, "me too")
        assert twice.note == "a new client"
    async with tenant_session(database, tenant_id) as session:
        assert await alarms.close_alarm(session, policy, AlarmKind.DRIFT)
        assert not await alarms.close_alarm(session, policy, AlarmKind.DRIFT)
        with pytest.raises(AlarmClosedError):
            await alarms.acknowledge(session, ann, first.id)
        fresh = await alarms.open_alarm(session, policy, AlarmKind.DRIFT, "again", {})
        assert fresh.id != first.id
        done = select(AuditEntry.action).where(AuditEntry.action.startswith("alarm."))
        assert list(await session.scalars(done.order_by(AuditEntry.seq))) == [
            "alarm.open",
            "alarm.acknowledge",
            "alarm.close",
            "alarm.open",
        ]
        await verify(session)


def card(tenant_id, name, *, made_at, **summary):
    return [
        row(tenant_id, name, "risk_card", manifest={"summary": summary}, created_at=made_at),
        ArtifactParent(tenant_id=tenant_id, artifact_id=name, parent_id="pol_1"),
    ]


async def test_evidence_ages_misses_and_is_renewed(
    database, settings, tenant_id, other_tenant_id, ann
):
    metrics = Metrics()
    shown = EvidenceMetrics(metrics)
    async with tenant_session(database, tenant_id) as session:
        policy = await activated(session, ann)

    async def glance(now, **more):
        seen = await look(database, settings, now=now, **more)
        shown.show(seen)
        return seen, generate_latest(metrics.registry).decode()

    begun = policy.activated_at
    seen, _ = await glance(begun, canaries=True)
    assert (seen.active, seen.canaries, seen.alarms) == (1, 0, {})

    seen, text_shown = await glance(begun + 8 * DAY, canaries=False)
    assert seen.alarms == {("evidence_expired", False): 1}
    expired = 'interpretops_alarms_open_count{acknowledged="no",kind="evidence_expired"} 1.0'
    assert expired in text_shown
    async with tenant_session(database, tenant_id) as session:
        (alarm,) = await session.scalars(select(Alarm))
        assert "in production for 8.0 days" in alarm.problem

    async with tenant_session(database, tenant_id) as session:
        session.add_all(
            card(tenant_id, "rc_1", made_at=begun + 8 * DAY, passed=False, missed=["defense_efficacy"],
                 defense_efficacy=0.4, latency_overhead_pct=12.0)
        )  # fmt: skip
    seen, text_shown = await glance(begun + 8 * DAY, canaries=False)
    assert seen.alarms == {("canary_missed", False): 1}
    assert 'interpretops_policy_defense_efficacy_ratio{policy="jailbreak"} 0.4' in text_shown
    assert 'interpretops_policy_latency_overhead_ratio{policy="jailbreak"} 0.12' in text_shown
    assert 'policy_evidence_age_seconds{policy="jailbreak"} 0.0' in text_shown

    seen, _ = await glance(begun + 9 * DAY, canaries=True)
    assert seen.canaries == 1
    seen, text_shown = await glance(begun + 9 * DAY, canaries=True)
    assert seen.canaries == 0  # a policy has one a day, whoever looks
    assert "interpretops_canaries_submitted_total 1.0" in text_shown
    async with tenant_session(database, tenant_id) as session:
        job = await last_canary(session, policy.id)
        request = ParseDict(job.spec, SubmitEvaluationRequest())
        assert request.policy.artifact.id == "pol_1"
        assert request.suites_uri == "package:eval_suites"
        assert str(request.spec.seed) == f"{begun + 9 * DAY:%Y%m%d}"

    async with tenant_session(database, tenant_id) as session:
        session.add_all(card(tenant_id, "rc_2", made_at=begun + 9 * DAY, passed=True, missed=[]))
    seen, text_shown = await glance(begun + 9 * DAY, canaries=False)
    assert seen.alarms == {}
    assert "defense_efficacy_ratio{" not in text_shown  # the newest card has none

    async with tenant_session(database, tenant_id) as session:
        await alarms.open_alarm(session, policy, AlarmKind.DRIFT, "it moved", {})
        await policies.retire(session, ann, "jailbreak", 1)
    seen, _ = await glance(begun + 9 * DAY)
    assert (seen.active, seen.alarms) == (0, {})


async def test_only_from_their_hour_on_are_canaries_due(database, settings, tenant_id, ann):
    async with tenant_session(database, tenant_id) as session:
        begun = (await activated(session, ann)).activated_at
    day = (begun + 2 * DAY).replace(hour=0)
    assert (await look(database, settings, now=day.replace(hour=15))).canaries == 0
    assert (await look(database, settings, now=day.replace(hour=16))).canaries == 1
    async with tenant_session(database, tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(Job)) == 1


async def test_audit_entries_are_counted_once(database, settings, tenant_id, ann):
    heads = {}
    await look(database, settings, now=NOW, heads=heads)
    async with tenant_session(database, tenant_id) as session:
        await activated(session, ann)
    seen = await look(database, settings, heads=heads)
    assert seen.entries == {"policy": 4}
    assert (await look(database, settings, heads=heads)).entries == {}


async def test_windows_have_their_time(database, tenant_id, ann):
    async with tenant_session(database, tenant_id) as session:
        policy = await activated(session, ann)
        for hours in (1, 24 * 15):
            await save_window(session, tenant_id, policy_id=policy.id, replica="a", requests=1,
                              hour=hour_of(datetime.now(UTC)) - hours * HOUR, body={})  # fmt: skip
        step = await _expire(session, timedelta(days=14))
        assert step.windows == 1
        assert json.loads(json.dumps(step.as_body())) == {"windows": 1}
        left = await session.scalar(select(func.count()).select_from(TrafficWindow))
        assert left == 1
        await session.execute(update(TrafficWindow).values(requests=2))


def test_the_worst_of_a_label_with_free_values_are_shown():
    metrics = Metrics()
    gauge = metrics.ranked("thing_ratio", "A thing.", "policy", worst="lowest", most=2)
    gauge.show({"a": 0.9, "b": 0.1, "c": 0.5})
    shown = [
        line for line in generate_latest(metrics.registry).decode().splitlines() if "{" in line
    ]
    assert shown == [
        'interpretops_thing_ratio{policy="b"} 0.1',
        'interpretops_thing_ratio{policy="c"} 0.5',
    ]
    gauge.show({})
    assert 'policy="b"' not in generate_latest(metrics.registry).decode()
    with pytest.raises(ValueError, match="must be snake_case"):
        metrics.ranked("thing", "A thing.", "policy", worst="lowest")
