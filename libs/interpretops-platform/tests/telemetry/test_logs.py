"""A log line is one JSON object that names its trace and tenant and keeps no secret."""

import io
import json
import logging

import pytest
from interpretops_platform.telemetry.logs import bound, configure_logging
from interpretops_platform.telemetry.traces import continued

from .conftest import TRACEPARENT

KEY = "iop_abcdefghijkl_" + "S3cr3t" * 7


@pytest.fixture
def lines():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("tracer", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = before, level
    logging.captureWarnings(capture=False)


def test_a_line_says_when_where_and_for_whom(lines, spans):
    with (
        bound(tenant="t-1"),
        bound(job_id="job_1"),
        continued({"traceparent": TRACEPARENT}, "work"),
    ):
        logging.getLogger("x.y").warning("took %d\nsteps", 3, extra={"steps": 3, "event": "mine"})
    logging.getLogger("x.y").info("outside")
    inside, outside = lines()
    assert inside["time"].endswith("+00:00")
    assert (inside["level"], inside["event"], inside["logger"]) == (
        "warning",
        "took 3\nsteps",
        "x.y",
    )
    assert (inside["service"], inside["tenant"], inside["job_id"]) == ("tracer", "t-1", "job_1")
    assert inside["trace_id"] == TRACEPARENT.split("-")[1]
    assert inside["span_id"] == f"{spans()[0].context.span_id:016x}"
    assert (inside["steps"], inside["event_"]) == (3, "mine")
    assert not {"tenant", "job_id", "trace_id"} & outside.keys()


def test_secrets_are_in_no_part_of_a_line(lines):
    try:
        raise ValueError(f"cannot connect to postgresql://me:S3cr3t@db with {KEY}")
    except ValueError:
        logging.getLogger().exception(
            "used %s", KEY, extra={"headers": {"authorization": "S3cr3t"}, "who": [KEY]}
        )
    (line,) = lines()
    assert "S3cr3t" not in json.dumps(line)
    assert "ValueError: cannot connect to postgresql://me:[redacted]@db" in line["error"]


def test_anything_can_be_logged(lines):
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    logging.getLogger().info(
        "odd", extra={"loss": float("nan"), "deep": deep, "long": "é" * 100_000, "thing": object()}
    )
    (line,) = lines()
    assert line["loss"] == "nan"
    assert "too deep" in json.dumps(line["deep"], ensure_ascii=False)
    assert len(line["long"]) < 20_000


def test_quiet_levels_stay_quiet(lines):
    logging.getLogger().debug("unseen")
    assert lines() == []
