"""What passes through to the edge: bodies, errors, files, event streams, and its absence."""

import asyncio
import hashlib
import json
from datetime import timedelta

import httpx
from interpretops_dashboard.app import create_app
from interpretops_platform.artifacts import register, upload
from interpretops_platform.dashboard_settings import DashboardSettings
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.cancel import cancel
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.tenants import TenantStores

from services.dashboard.tests.conftest import OURS, browsing, served
from services.gateway.tests.folders import CIRCUIT, exported


async def queued(database, tenant):
    async with tenant_session(database, tenant) as session:
        return (await submit(session, tenant, JobRequest(kind="trace"))).job.id


async def test_problems_come_through_as_the_edge_says_them(signed_in):
    answer = await signed_in.get("/api/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["fix"] == "list the jobs you have"
    answer = await signed_in.post("/api/keys", json={"name": "ci", "roles": ["king"]})
    assert answer.json()["field"] == "roles[0]"


async def test_files_come_through_with_their_hash(
    signed_in, edge_settings, database, tenant_id, tmp_path
):
    content = b"%PDF-1.7" + b"1" * 3_000_000
    folder = exported(tmp_path / "report", "rp_" + CIRCUIT[3:], "report", {"report.pdf": content})
    async with tenant_session(database, tenant_id) as session:
        store = await TenantStores(edge_settings).open(session)
        await register(session, tenant_id, upload(store, folder), retention=timedelta(days=1))
    answer = await signed_in.get(f"/api/reports/rp_{CIRCUIT[3:]}.pdf")
    assert answer.content == content
    assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    headers = {"if-none-match": answer.headers["etag"]}
    again = await signed_in.get(f"/api/reports/rp_{CIRCUIT[3:]}.pdf", headers=headers)
    assert again.status_code == 304


async def test_an_event_stream_comes_through_as_it_happens_and_from_where_one_was(
    edge_settings, edge, pages, issue, database, tenant_id
):
    """Over a real connection: each event is here before the next one happens."""
    job_id = await queued(database, tenant_id)
    dashboard = DashboardSettings(api=edge)
    settings = edge_settings.model_copy(update={"dashboard": dashboard})
    with served(create_app(settings, pages=pages)) as address:
        async with httpx.AsyncClient(base_url=address, headers=OURS, timeout=20) as browser:
            await browser.post("/session", json={"key": await issue()})
            path = f"/api/jobs/{job_id}/events"
            async with browser.stream("GET", path) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                lines = stream.aiter_lines()
                first = await next_event(lines)
                assert first["event"] == "queued"
                async with tenant_session(database, tenant_id) as session:
                    await cancel(session, job_id)
                assert (await next_event(lines))["event"] == "cancelled"
            resumed = await browser.get(path, headers={"last-event-id": first["id"]})
            assert "event: queued" not in resumed.text
            assert "event: cancelled" in resumed.text


async def test_an_edge_that_is_away_is_said_to_be(edge_settings, pages, issue):
    dashboard = DashboardSettings(api="http://127.0.0.1:9")
    async with browsing(
        edge_settings.model_copy(update={"dashboard": dashboard}), pages
    ) as browser:
        answer = await browser.post("/session", json={"key": await issue()})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["detail"] == "the platform does not answer"
        assert (await browser.get("/healthz")).json() == {"status": "ok"}


async def next_event(lines):
    event = {}
    async with asyncio.timeout(20):
        async for line in lines:
            name, _, value = line.partition(": ")
            if line == "" and "event" in event:
                return event
            if name == "data":
                event["data"] = json.loads(value)
            elif name in ("id", "event"):
                event[name] = value
    return None
