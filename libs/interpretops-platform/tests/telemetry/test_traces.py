"""One trace runs through rows, queues and forks; spans leave only for a configured collector."""

import os
from concurrent import futures

import grpc
import pytest
from interpretops_platform.telemetry.settings import TelemetrySettings
from interpretops_platform.telemetry.traces import (
    configure_tracing,
    continued,
    from_headers,
    to_headers,
    tracer,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from pydantic import ValidationError

from .conftest import TRACEPARENT


def in_child(work) -> str:
    """What `work()` returns in a forked child, or the text of what it raised."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


def test_a_trace_goes_through_a_row_and_back(spans):
    with continued({"traceparent": TRACEPARENT}, "submit"):
        row = to_headers()
    with continued(row, "run_job trace"):
        pass
    submitted, ran = spans()
    assert f"{ran.context.trace_id:032x}" == TRACEPARENT.split("-")[1]
    assert ran.parent.span_id == submitted.context.span_id
    assert row.keys() == {"traceparent"}


def test_a_span_does_not_leak_into_what_names_no_trace(spans):
    with tracer().start_as_current_span("outer"), continued({}, "inner"):
        pass
    inner, outer = spans()
    assert inner.parent is None
    assert inner.context.trace_id != outer.context.trace_id


def test_malformed_headers_name_no_trace():
    assert to_headers(from_headers({"traceparent": "00-zz-1-01"})) == {}


def test_setting_up_again_changes_nothing(provider):
    assert configure_tracing("tests", TelemetrySettings()) is provider


def test_a_child_does_not_take_over_its_parents_exporter(provider):
    said = in_child(lambda: configure_tracing("worker", TelemetrySettings()))
    assert said.startswith("RuntimeError: tracing was set up before the fork")


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.spans = []

    def Export(self, request, context):  # noqa: N802 - the contract's name
        for resource in request.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span.name) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


PROGRAM = """
import os, sys
from interpretops_platform.telemetry.settings import TelemetrySettings
from interpretops_platform.telemetry.traces import configure_tracing, tracer
if os.fork() == 0:
    provider = configure_tracing("worker", TelemetrySettings(otlp_endpoint=sys.argv[1]))
    with tracer().start_as_current_span("step"):
        pass
    provider.shutdown()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_spans_of_a_forked_worker_reach_the_collector(run_python):
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        run_python(PROGRAM, f"http://127.0.0.1:{port}")
    finally:
        server.stop(0).wait()
    assert collector.spans == [("worker", "step")]


def test_an_endpoint_says_whether_it_is_encrypted():
    with pytest.raises(ValidationError, match="http://"):
        TelemetrySettings(otlp_endpoint="collector:4317")
