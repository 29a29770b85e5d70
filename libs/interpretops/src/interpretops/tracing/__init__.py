"""Tracing: activations of a model on prompts, streamed to disk under a memory bound."""

from interpretops.tracing.reader import Activations, Trace, TraceIndex
from interpretops.tracing.spec import Positions, TraceSpec
from interpretops.tracing.tracer import trace

__all__ = ["Activations", "Positions", "Trace", "TraceIndex", "TraceSpec", "trace"]
