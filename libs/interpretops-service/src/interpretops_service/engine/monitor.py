"""The engine's monitor of a job: progress for watchers, spans for traces, checkpoints for successors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interpretops_platform.telemetry.traces import tracer

if TYPE_CHECKING:
    from interpretops_platform.jobs.worker import JobContext
    from opentelemetry.trace import Span

    from interpretops_service.engine.checkpoints import Checkpoints


class JobMonitor:
    """Told of every step by the engine; each stage is a span of the job's trace.

    Args:
        context: The attempt.
        checkpoints: Saved between steps, now and then.
    """

    def __init__(self, context: JobContext, checkpoints: Checkpoints) -> None:
        self._context = context
        self._checkpoints = checkpoints
        self._stage = ""
        self._span: Span | None = None

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        """See `interpretops.progress.Monitor`.

        Raises:
            JobCancelledError: When somebody asked for the job to stop.
            HandBackError: When the worker shuts down.
            LeaseLostError: When another attempt took over.
        """
        if stage != self._stage:
            self.close()
            self._stage = stage
            self._span = tracer().start_span("engine_stage", attributes={"stage": stage})
        self._context.update(stage, done, total, **figures)
        self._checkpoints.save_if_due()

    def close(self) -> None:
        """End the span of the stage that runs."""
        if self._span is not None:
            self._span.end()
            self._span = None
