"""The worker's side: runs prompts through a model and keeps its activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops import tracing
from interpretops_protos.v1.tracer_service_pb2 import SubmitTraceRequest
from interpretops_service.engine.bench import EngineHandler

if TYPE_CHECKING:
    from interpretops_service.engine.bench import Bench


def trace(bench: Bench, request: SubmitTraceRequest) -> tracing.Trace:
    """Make the trace that a request asks for."""
    spec = bench.spec(
        tracing.TraceSpec, request.spec, shard_mb=max(1.0, bench.runtime.memory_mb / 4)
    )
    return tracing.trace(
        bench.model(request.model),
        bench.prompts(request.prompts),
        spec,
        store=bench.store,
        monitor=bench.monitor,
    )


handler = EngineHandler(SubmitTraceRequest, trace)
