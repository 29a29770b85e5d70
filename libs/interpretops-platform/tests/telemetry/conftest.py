"""One tracer provider for the process, with its spans kept in memory."""

import os
import subprocess
import sys

import pytest
from interpretops_platform.telemetry.settings import TelemetrySettings
from interpretops_platform.telemetry.traces import configure_tracing
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_exporter = InMemorySpanExporter()


@pytest.fixture(scope="session")
def provider():
    made = configure_tracing("tests", TelemetrySettings())
    made.add_span_processor(SimpleSpanProcessor(_exporter))
    return made


@pytest.fixture
def spans(provider):
    _exporter.clear()
    return _exporter.get_finished_spans


@pytest.fixture
def run_python():
    """Runs a program in an interpreter of its own and fails where it fails."""

    def run(program: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(
            [sys.executable, "-c", program, *arguments], check=True, timeout=120, env=environment
        )

    return run
