"""What goes around every request: streams, limits, headers, logs, problems and a calm end."""

import asyncio
import json
import logging
import signal
import sys

import httpx
import pytest
import yaml
from interpretops_platform.database.session import tenant_session
from interpretops_platform.edge_settings import EdgeSettings
from interpretops_platform.jobs import lease
from interpretops_platform.settings import RedisSettings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

from services.gateway.tests.conftest import serving
from services.gateway.tests.test_reads import queued


def events(text):
    """(id, event, data) of each event of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def test_a_jobs_history_is_streamed_to_its_end_and_resumed(edge, admin, database, tenant_id):
    job_id = await queued(database, tenant_id)
    claimed = await lease.claim(database, job_id, kinds=["trace"], owner="w", lease_seconds=30)
    async with tenant_session(database, tenant_id) as session:
        await lease.heartbeat(
            session, claimed.lease, lease_seconds=30, progress={"stage": "a", "done": 1, "total": 2}
        )
        await lease.finish(session, claimed.lease, result_artifact_id=None, progress=None)
    path = f"/jobs/{job_id}/events"
    answer = await edge.get(path, headers=admin)
    assert answer.headers["content-type"].startswith("text/event-stream")
    whole = events(answer.text)
    assert [kind for _, kind, _ in whole] == ["queued", "started", "progress", "succeeded"]
    assert whole[2][2]["body"]["done"] == 1
    rest = await edge.get(path, headers={**admin, "last-event-id": whole[1][0]})
    assert events(rest.text) == whole[2:]
    rest = await edge.get(f"{path}?after={whole[2][0]}", headers=admin)
    assert events(rest.text) == whole[3:]


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30, "١"])
async def test_a_made_up_event_id_is_refused(edge, admin, database, tenant_id, cursor):
    job_id = await queued(database, tenant_id)
    headers = {**admin, "last-event-id": cursor.encode()}
    answer = await edge.get(f"/jobs/{job_id}/events", headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (422, "last-event-id")


async def test_an_idle_stream_shows_that_it_is_alive_and_ends_with_the_edge(
    whole_settings, admin, database, tenant_id
):
    settings = whole_settings.model_copy(update={"edge": EdgeSettings(heartbeat_seconds=0.05)})
    job_id = await queued(database, tenant_id)
    sent = bytearray()

    async def overheard(scope, receive, send):
        async def note(message):
            sent.extend(message.get("body", b""))
            await send(message)

        await edge.app(scope, receive, note)

    async with (
        serving(settings) as edge,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=overheard), base_url="http://edge"
        ) as client,
        asyncio.timeout(120),
    ):
        reading = asyncio.ensure_future(client.get(f"/jobs/{job_id}/events", headers=admin))
        while sent.count(b": ping") < 2:
            await asyncio.sleep(0.05)
        edge.app.state.edge.stopping.set()
        answer = await reading
    assert [kind for _, kind, _ in events(answer.text)] == ["queued"]


async def test_too_many_requests_are_told_when_to_come_back(whole_settings, admin, stranger):
    limits = EdgeSettings(requests_per_second=0.5, request_burst=3)
    settings = whole_settings.model_copy(update={"edge": limits})
    async with serving(settings) as edge, serving(settings) as twin:
        answers = [await each.get("/whoami", headers=admin) for each in (edge, twin, edge, twin)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-remaining"] == "2"
        assert 1 <= int(answers[3].headers["retry-after"]) <= 2
        assert answers[3].json()["type"] == "urn:interpretops:problem:too-many-requests"
        assert (await edge.get("/whoami", headers=stranger)).status_code == 200
        assert (await edge.get("/healthz")).status_code == 200


async def test_without_redis_each_process_counts_and_says_so(whole_settings, admin, caplog):
    settings = whole_settings.model_copy(
        update={
            "edge": EdgeSettings(requests_per_second=0.01, request_burst=2),
            "redis": RedisSettings(url=SecretStr("redis://127.0.0.1:1/0")),
        }
    )
    async with serving(settings) as edge:
        answers = [await edge.get("/whoami", headers=admin) for _ in range(3)]
        ready = await edge.get("/readyz")
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [r.getMessage() for r in caplog.records if "Redis" in r.getMessage()] == [
        "rate limits are counted per process: Redis does not answer"
    ]
    assert (ready.status_code, ready.json()["checks"]["redis"]) == (200, "down")


async def test_a_body_is_counted_as_it_arrives(whole_settings, admin):
    settings = whole_settings.model_copy(update={"edge": EdgeSettings(body_bytes=2000)})

    async def chunks():
        for _ in range(100):
            yield b" " * 100

    async with serving(settings) as edge:
        headers = {**admin, "content-type": "application/json"}
        told = await edge.post("/analyze", content=b" " * 3000, headers=headers)
        streamed = await edge.post("/analyze", content=chunks(), headers=headers)
        openai = await edge.post("/v1/completions", content=chunks(), headers=headers)
    assert (told.status_code, streamed.status_code, openai.status_code) == (413, 413, 413)
    assert streamed.json()["title"]
    assert openai.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "content", "kind", "status"),
    [
        ("GET", "/nowhere", None, None, 404),
        ("PUT", "/jobs", None, None, 405),
        ("POST", "/analyze", b"class=x", "application/x-www-form-urlencoded", 415),
        ("POST", "/analyze", b"{}", None, 415),
        ("POST", "/analyze", b"{", "application/json", 400),
        ("POST", "/analyze", b"\xff", "application/json", 400),
        ("POST", "/analyze", b"[" * 100_000, "application/json", 400),
        ("POST", "/analyze", b"[]", "application/json", 422),
        ("POST", "/analyze", b"", "application/json", 422),
        ("GET", "/jobs/x", None, None, 422),
        ("GET", "/jobs?limit=0", None, None, 422),
    ],
)
async def test_every_problem_has_one_shape(edge, admin, method, path, content, kind, status):
    headers = {**admin, **({"content-type": kind} if kind else {})}
    answer = await edge.request(method, path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["fix"]
    assert problem["instance"] == path.partition("?")[0]
    if status == 405:
        assert answer.headers["allow"] == "GET"


async def test_a_defect_is_logged_and_not_shown(edge, admin, caplog, monkeypatch):
    async def broken(*_, **__):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("interpretops_gateway.routes.jobs.get_job", broken)
    answer = await edge.get("/jobs/job_01J9Z3W8Q5C2M7N4R6T8V0X1Y3", headers=admin)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    error_id = answer.json()["error_id"]
    (record,) = [r for r in caplog.records if getattr(r, "error_id", None) == error_id]
    assert "secret detail" in str(record.exc_info[1])


async def test_a_database_that_is_away_is_a_503(whole_settings, admin):
    database = whole_settings.database.model_copy(
        update={"app_dsn": SecretStr("postgresql://a:b@127.0.0.1:1/c")}
    )
    async with serving(whole_settings.model_copy(update={"database": database})) as edge:
        answer = await edge.get("/whoami", headers=admin)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert (await edge.get("/healthz")).status_code == 200
        ready = await edge.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)


async def test_headers_are_strict_and_the_request_id_is_passed_on(edge, admin):
    answer = await edge.get("/whoami", headers={**admin, "x-request-id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    odd = await edge.get("/whoami", headers={**admin, "x-request-id": "a b"})
    assert odd.headers["x-request-id"] != "a b"
    assert "access-control-allow-origin" not in answer.headers


async def test_pages_of_other_origins_call_only_where_allowed(whole_settings, admin):
    edge = EdgeSettings(cors_origins=("https://ui.example",))
    async with serving(whole_settings.model_copy(update={"edge": edge})) as client:
        asked = {
            "origin": "https://ui.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        allowed = await client.options("/analyze", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://ui.example"
        refused = await client.options(
            "/analyze", headers={**asked, "origin": "https://evil.example"}
        )
        assert "access-control-allow-origin" not in refused.headers


async def test_requests_are_measured_by_route_and_logged_with_the_tenant(
    edge, admin, tenant_id, caplog
):
    with caplog.at_level(logging.INFO, logger="interpretops_gateway.middleware"):
        await edge.get("/jobs/job_01J9Z3W8Q5C2M7N4R6T8V0X1Y3", headers=admin)
        await edge.get("/no/such/page")
    shown = (await edge.get("/metrics")).text
    line = 'interpretops_http_requests_total{route="GET /jobs/{job_id}",status="4xx"} 1.0'
    assert line in shown
    assert 'interpretops_http_requests_total{route="unknown",status="4xx"} 1.0' in shown
    assert "interpretops_http_requests_in_flight_count 0.0" in shown
    assert "job_01J9" not in shown
    logged = [record for record in caplog.records if record.getMessage() == "request"]
    assert (logged[0].route, logged[0].status) == ("GET /jobs/{job_id}", 404)
    assert logged[0].tenant == str(tenant_id)


async def test_one_trace_goes_from_the_request_to_the_service(edge, admin):
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {**admin, "traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    await edge.post("/report", json={"risk_card": "rc_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"}, headers=headers)
    seen = {s.name for s in spans.get_finished_spans() if f"{s.context.trace_id:032x}" == trace_id}
    assert {"POST /report", "interpretops.v1.ReportService/SubmitReport"} <= seen


async def test_the_reference_can_be_left_out(whole_settings):
    edge = EdgeSettings(docs=False)
    async with serving(whole_settings.model_copy(update={"edge": edge})) as client:
        assert (await client.get("/docs")).status_code == 404


@pytest.mark.parametrize("processes", [1, 2])
async def test_the_program_serves_and_stops_though_a_stream_is_open(
    whole_settings, admin, database, tenant_id, tmp_path, processes
):
    job_id = await queued(database, tenant_id)
    plain = whole_settings.model_copy(
        update={"edge": EdgeSettings(port=0, processes=processes, drain_seconds=30)}
    )
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps(revealed(plain), default=str))))
    program = [sys.executable, "-m", "interpretops_gateway", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*program, stderr=asyncio.subprocess.PIPE)
    try:
        address = None
        async with asyncio.timeout(60):
            while address is None:
                line = json.loads(await process.stderr.readline())
                address = line.get("address") if line["event"] == "listening" else None
        reader = asyncio.ensure_future(process.stderr.read())
        async with (
            httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client,
            client.stream("GET", f"/jobs/{job_id}/events", headers=admin) as stream,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(25):  # less than it may drain
                async for _ in lines:
                    pass
                assert await process.wait() == 0
        assert b"Traceback" not in await reader
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_wrong_setting_is_one_line(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("edge: {port: many}\n")
    program = [sys.executable, "-m", "interpretops_gateway", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(*program, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode().startswith("setting edge.port:")
    assert said.count(b"\n") == 1


def revealed(settings):
    from pydantic import BaseModel, SecretStr

    def plain(value):
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, BaseModel):
            return {name: plain(getattr(value, name)) for name in type(value).model_fields}
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(settings)
