"""Traffic against its reference, and alarms, as callers see them."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from interpretops.drift import Traffic
from interpretops_platform import alarms, policies
from interpretops_platform.alarms import AlarmKind
from interpretops_platform.database.session import tenant_session
from interpretops_platform.security.principal import Principal, Role
from interpretops_platform.traffic import hour_of, save_window

HOUR = timedelta(hours=1)


def traffic(count, above):
    """Requests of which a share scores above the threshold."""
    seen = Traffic()
    for i in range(count):
        fired = i % 10 < above
        seen.see((3.0 if fired else -3.0) + i % 7 / 7, fired, {"layer18.f471": float(i % 4 == 0)})
    return seen


@pytest_asyncio.fixture
async def version(edge, admin, tenant_id, database):
    """A policy in production, whose traffic of the last hour is unlike that of the hours before."""
    ann = Principal.of(tenant_id, "key:ann", [Role.ADMIN])
    made = await edge.post("/policies", json={"yaml": "meta: {id: jailbreak-v1}"}, headers=admin)
    assert made.status_code == 201, made.text
    async with tenant_session(database, tenant_id) as session:
        await policies.propose(session, ann, "jailbreak-v1", 1)
        await policies.approve(session, ann, "jailbreak-v1", 1, separation=False)
        await policies.activate(session, ann, "jailbreak-v1", 1, separation=False)
    now = hour_of(datetime.now(UTC))
    async with tenant_session(database, tenant_id) as session:
        policy = await policies.active(session, "jailbreak-v1")
        for hours, above in ((3, 1), (2, 1), (1, 4)):
            seen = traffic(400, above)
            await save_window(
                session,
                tenant_id,
                policy_id=policy.id,
                hour=now - hours * HOUR,
                replica="a",
                requests=seen.requests,
                body=seen.model_dump(mode="json"),
            )
    return policy


async def test_a_window_is_compared_with_any_other(edge, admin, version):
    now = hour_of(datetime.now(UTC))
    asked = {
        "since": (now - 3 * HOUR).isoformat(),
        "reference": "window",
        "reference_since": (now - 3 * HOUR).isoformat(),
        "reference_until": (now - 2 * HOUR).isoformat(),
        "parts": 4,
    }
    answer = await edge.get("/drift/jailbreak-v1", params=asked, headers=admin)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["policy"], found["version"], found["reference"]) == ("jailbreak-v1", 1, "window")
    assert [part["verdict"] for part in found["parts"]] == [
        "stable",
        "stable",
        "drifted",
        "too_few",
    ]
    report = found["report"]
    assert (report["requests"], report["reference_requests"]) == (1200, 400)
    assert report["condition"]["window"] == pytest.approx(0.2)
    assert report["features"][0]["unit"] == "layer18.f471"
    assert report["limits"]["psi_drift"] == 0.25
    assert sum(each["reference"] for each in report["score"]["bins"]) == pytest.approx(1)
    last = await edge.get("/drift/jailbreak-v1?hours=1&reference=traffic", headers=admin)
    assert last.json()["report"]["verdict"] in ("too_few", "drifted")  # where the hour has turned
    listed = (await edge.get("/drift", headers=admin)).json()["items"]
    assert [each["policy"] for each in listed] == ["jailbreak-v1"]
    assert listed[0]["report"]["advice"]


async def test_what_cannot_be_compared_is_said(edge, admin, version):
    for query, status, field in (
        ("hours=2&since=2026-01-01T00:00:00Z", 422, "hours"),
        ("reference=window", 422, "reference_since"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", 422, "since"),
        ("since=2020-01-02T00:00:00Z", 422, "since"),
        ("reference=mean", 422, "reference"),
    ):
        answer = await edge.get(f"/drift/jailbreak-v1?{query}", headers=admin)
        assert answer.status_code == status, (query, answer.text)
        assert answer.json()["field"] == field, query
    assert (await edge.get("/drift/jailbreak-v1?version=7", headers=admin)).status_code == 404


async def test_alarms_are_listed_and_acknowledged(edge, admin, issue, stranger, version, database):
    tenant_id = version.tenant_id
    async with tenant_session(database, tenant_id) as session:
        made = await alarms.open_alarm(session, version, AlarmKind.DRIFT, "it moved", {"psi": 0.4})
        await alarms.open_alarm(session, version, AlarmKind.EVIDENCE_EXPIRED, "it is old", {})
        await alarms.close_alarm(session, version, AlarmKind.EVIDENCE_EXPIRED)
    listed = (await edge.get("/alarms", headers=admin)).json()["items"]
    assert [alarm["kind"] for alarm in listed] == ["evidence_expired", "drift"]
    (found,) = (await edge.get("/alarms?open=true", headers=admin)).json()["items"]
    assert (found["policy"], found["version"], found["body"]) == ("jailbreak-v1", 1, {"psi": 0.4})
    (closed,) = (await edge.get("/alarms?open=false&kind=evidence_expired", headers=admin)).json()[
        "items"
    ]
    assert closed["closed_at"]
    assert (await edge.get("/alarms?policy=other", headers=admin)).json()["items"] == []
    first = await edge.get("/alarms?limit=1", headers=admin)
    rest = await edge.get(f"/alarms?cursor={first.json()['next_cursor']}", headers=admin)
    assert [alarm["id"] for alarm in rest.json()["items"]] == [made.id]

    path = f"/alarms/{made.id}/acknowledge"
    viewer = await issue(tenant_id, Role.VIEWER, name="eyes")
    assert (await edge.post(path, json={}, headers=viewer)).status_code == 403
    assert (await edge.post(path, json={}, headers=stranger)).status_code == 404
    known = (await edge.post(path, json={"note": "on it"}, headers=admin)).json()
    assert (known["acknowledged_by"], known["note"]) == ("key:admin", "on it")
    log = (await edge.get("/audit?action=alarm.acknowledge", headers=admin)).json()["items"]
    assert [entry["target"] for entry in log] == [made.id]
    (gone,) = [alarm for alarm in listed if alarm["kind"] == "evidence_expired"]
    answer = await edge.post(f"/alarms/{gone['id']}/acknowledge", headers=admin)
    assert answer.status_code == 409
