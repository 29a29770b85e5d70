"""Metrics have units in their names and a known number of series, and can be read by HTTP."""

import urllib.request

import pytest
from interpretops_platform.telemetry.metrics import JOB_SECONDS, Metrics
from prometheus_client.parser import text_string_to_metric_families


def read(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_are_shown_by_http():
    metrics = Metrics()
    jobs = metrics.counter("jobs_finished_total", "Jobs.", {"state": ["succeeded", "failed"]})
    jobs.labels(state="failed").inc(2)
    metrics.gauge("queued_jobs_count", "Queue.").labels().set(5)
    metrics.histogram("job_duration_seconds", "Time.", buckets=JOB_SECONDS).labels().observe(3)
    exposition = metrics.expose("127.0.0.1", 0)
    try:
        shown = read(exposition.port)
    finally:
        exposition.close()
    assert shown["interpretops_jobs_finished_total", (("state", "failed"),)] == 2
    assert shown["interpretops_queued_jobs_count", ()] == 5
    assert shown["interpretops_job_duration_seconds_bucket", (("le", "2.5"),)] == 0
    assert shown["interpretops_job_duration_seconds_bucket", (("le", "5.0"),)] == 1
    with pytest.raises(OSError, match="refused"):
        read(exposition.port)


def test_values_nobody_declared_make_one_series_together():
    metrics = Metrics()
    jobs = metrics.counter("jobs_total", "Jobs.", {"kind": ["trace"]})
    for number in range(5000):
        jobs.labels(kind=f"made-up-{number}").inc()
    assert metrics.registry.get_sample_value("interpretops_jobs_total", {"kind": "other"}) == 5000
    assert len(list(next(iter(metrics.registry.collect())).samples)) == 2  # and its creation time


@pytest.mark.parametrize(
    "name", ["jobs", "latency_ms", "Jobs_total", "duration_seconds_", "jobs-done_total"]
)
def test_names_without_a_unit_are_refused(name):
    with pytest.raises(ValueError, match=r"snake_case|end in"):
        Metrics().counter(name, "x")
    with pytest.raises(ValueError, match=r"snake_case|end in"):
        Metrics().histogram(name, "x")


def test_labels_are_declared_with_their_values():
    metrics = Metrics()
    with pytest.raises(ValueError, match="needs a list of values"):
        metrics.counter("a_total", "x", {"tenant": []})
    with pytest.raises(ValueError, match="more than 1000"):
        metrics.counter(
            "b_total", "x", {"x": list(map(str, range(40))), "y": list(map(str, range(40)))}
        )
    with pytest.raises(ValueError, match=r"labels are \['kind'\]"):
        metrics.counter("c_total", "x", {"kind": ["trace"]}).labels(tenant="t")


def test_bounds_ascend():
    with pytest.raises(ValueError, match="ascend"):
        Metrics().histogram("wait_seconds", "x", buckets=(1.0, 0.5))


async def test_metrics_are_shown_by_asgi():
    metrics = Metrics()
    metrics.counter("jobs_total", "Jobs.").labels().inc()
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    await metrics.asgi_app()(scope, receive, send)
    assert sent[0]["status"] == 200
    assert b"interpretops_jobs_total 1.0" in sent[1]["body"]
