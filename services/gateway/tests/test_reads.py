"""Jobs and artifacts as callers read them."""

import hashlib
import json

import pytest
from interpretops_platform.database.models import Job
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.jobs.watch import get_job
from interpretops_platform.security.principal import Role
from sqlalchemy import update

from services.gateway.tests.folders import CIRCUIT, GRAPH, TRACE


async def queued(database, tenant, kind="trace", **options):
    async with tenant_session(database, tenant) as session:
        request = JobRequest(kind=kind, spec={"model": {"name": "tiny"}}, **options)
        return (await submit(session, tenant, request)).job.id


async def test_a_job_is_shown_with_what_was_asked_for(edge, admin, database, tenant_id):
    job_id = await queued(database, tenant_id)
    answer = await edge.get(f"/jobs/{job_id}", headers=admin)
    assert answer.status_code == 200
    job = answer.json()
    assert (job["id"], job["state"], job["kind"]) == (job_id, "QUEUED", "trace")
    assert job["spec"] == {"model": {"name": "tiny"}}


@pytest.mark.parametrize("method", ["delete", "post"])
async def test_cancelling_ends_a_queued_job_and_can_be_repeated(
    edge, admin, database, tenant_id, method
):
    job_id = await queued(database, tenant_id)
    path = f"/jobs/{job_id}" + ("/cancel" if method == "post" else "")
    for _ in range(2):
        answer = await edge.request(method, path, headers=admin)
        assert answer.status_code == 200
        assert answer.json()["state"] == "CANCELLED"


async def test_a_misspelt_filter_is_refused_and_not_ignored(edge, admin):
    wrong = await edge.get("/jobs?kind=trace&stat=FAILED", headers=admin)
    assert (wrong.status_code, wrong.json()["field"]) == (422, "stat")
    assert "it has cursor, kind, limit, state" in wrong.json()["detail"]
    assert wrong.json()["errors"][0]["where"] == "query"
    assert (await edge.get("/jobs?stat=FAILED")).status_code == 401  # the caller comes first
    assert (await edge.get("/healthz?deep=1")).status_code == 422
    wrong = await edge.get("/v1/models?limit=1", headers=admin)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "limit")


async def test_what_was_cancelled_is_asked_for_again_once(edge, admin, database, tenant_id):
    job_id = await queued(database, tenant_id)
    refused = await edge.post(f"/jobs/{job_id}/retry", headers=admin)
    assert (refused.status_code, refused.json()["fix"][:6]) == (409, "cancel")
    await edge.delete(f"/jobs/{job_id}", headers=admin)
    async with tenant_session(database, tenant_id) as session:
        await session.execute(update(Job).values(checkpoint_uri="file:///checkpoint"))
    answers = [await edge.post(f"/jobs/{job_id}/retry", headers=admin) for _ in range(2)]
    again, same = (answer.json() for answer in answers)
    assert [answer.status_code for answer in answers] == [202, 202]
    assert (again["state"], again["created_by"]) == ("QUEUED", "key:admin")
    assert again["id"] == same["id"] != job_id
    details = (await edge.get(answers[0].headers["location"], headers=admin)).json()
    assert details["spec"] == {"model": {"name": "tiny"}}
    async with tenant_session(database, tenant_id) as session:
        assert (await get_job(session, again["id"])).checkpoint_uri == "file:///checkpoint"


async def test_the_log_of_a_job_is_a_line_for_each_event(edge, admin, database, tenant_id):
    job_id = await queued(database, tenant_id)
    await edge.delete(f"/jobs/{job_id}", headers=admin)
    answer = await edge.get(f"/jobs/{job_id}/log", headers=admin)
    assert answer.headers["content-type"].startswith("text/plain")
    assert [line.split()[1] for line in answer.text.splitlines()] == ["queued", "cancelled"]


async def test_a_tenant_is_shown_and_shredded_by_its_name_alone(
    edge, admin, issue, stranger, circuit, tenant_id
):
    viewer = await issue(tenant_id, Role.VIEWER)
    tenant = (await edge.get("/tenant", headers=viewer)).json()
    assert (tenant["artifacts"], tenant["expiring"], tenant["retention_days"]) == (2, 2, 14)
    body = {"name": tenant["name"]}
    assert (await edge.request("DELETE", "/tenant", json=body, headers=viewer)).status_code == 403
    wrong = await edge.request("DELETE", "/tenant", json={"name": "other"}, headers=admin)
    assert (wrong.status_code, wrong.json()["field"]) == (422, "name")
    shredded = await edge.request("DELETE", "/tenant", json=body, headers=admin)
    assert (shredded.status_code, shredded.json()["artifacts"]) == (200, 2)
    assert (await edge.get("/tenant", headers=stranger)).json()["name"] != tenant["name"]


async def test_jobs_are_filtered_by_kind_and_state(edge, admin, database, tenant_id):
    trace = await queued(database, tenant_id)
    await queued(database, tenant_id, "report")
    await edge.delete(f"/jobs/{trace}", headers=admin)
    answer = await edge.get("/jobs?kind=trace&state=CANCELLED", headers=admin)
    assert [job["id"] for job in answer.json()["items"]] == [trace]
    answer = await edge.get("/jobs?kind=trace&state=QUEUED", headers=admin)
    assert answer.json() == {"items": [], "next_cursor": None}


async def test_pages_hold_each_job_once_though_jobs_are_added_between_them(
    edge, admin, database, tenant_id
):
    before = [await queued(database, tenant_id) for _ in range(5)]
    seen, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await edge.get("/jobs", params=params, headers=admin)).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await queued(database, tenant_id)
    assert seen == before[::-1]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "W10", "WzEsMl0", "bnVsbA", "W1sxXSxbMl1d"])
async def test_a_made_up_cursor_is_refused_by_name(edge, admin, cursor):
    answer = await edge.get("/jobs", params={"cursor": cursor}, headers=admin)
    assert answer.status_code == 422
    assert answer.json()["field"] == "cursor"


async def test_lists_show_only_the_callers_tenant(edge, stranger, database, tenant_id, circuit):
    await queued(database, tenant_id)
    for path in ("/jobs", "/artifacts", "/circuits", "/traces"):
        answer = await edge.get(path, headers=stranger)
        assert answer.json()["items"] == []


async def test_a_circuit_is_shown_with_its_scores_strongest_first(edge, admin, circuit):
    answer = await edge.get(f"/circuit/{circuit}", headers=admin)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body["ccs_summary"].items()) == [("layer12.f47", 0.18), ("layer9.attn.h4", 0.11)]
    assert body["graph"] == GRAPH


async def test_a_trace_is_no_circuit(edge, admin, circuit):
    answer = await edge.get(f"/circuit/{TRACE}", headers=admin)
    assert answer.status_code == 404


async def test_lineage_names_parents_before_children(edge, admin, circuit):
    answer = await edge.get(f"/artifacts/{circuit}/lineage", headers=admin)
    assert [item["id"] for item in answer.json()["artifacts"]] == [TRACE, CIRCUIT]


async def test_artifacts_are_found_by_what_they_were_made_from(edge, admin, circuit):
    answer = await edge.get("/artifacts", params={"parent": TRACE}, headers=admin)
    assert [item["id"] for item in answer.json()["items"]] == [CIRCUIT]


async def test_a_file_is_downloaded_whole_and_once(edge, admin, circuit):
    path = f"/artifacts/{circuit}/files/deep/big.json"
    answer = await edge.get(path, headers=admin)
    assert answer.content == b"1" * 3_000_000
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert answer.headers["content-disposition"] == 'attachment; filename="big.json"'
    again = await edge.get(path, headers={**admin, "if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_damaged_file_is_never_given_out_as_whole(edge, admin, circuit, edge_settings):
    wanted = hashlib.sha256(json.dumps(GRAPH).encode()).hexdigest()
    (stored,) = edge_settings.objects.folder.rglob(wanted)
    stored.chmod(0o600)
    stored.write_bytes(b"x" * stored.stat().st_size)
    answer = await edge.get(f"/artifacts/{circuit}/files/circuit.json", headers=admin)
    assert answer.status_code == 500
    assert "error_id" in answer.json()


async def test_a_report_is_downloaded_as_pdf(edge, admin, keep, tenant_id, circuit):
    report = "rp_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
    await keep(tenant_id, report, "report", {"audit.pdf": b"%PDF-1.7"}, [circuit])
    answer = await edge.get(f"/reports/{report}.pdf", headers=admin)
    assert answer.content == b"%PDF-1.7"
    assert answer.headers["content-type"] == "application/pdf"
    assert (await edge.get(f"/reports/{circuit}.pdf", headers=admin)).status_code == 404
