"""`work KIND...`: a Celery worker whose handlers, and with them the engine, are loaded after the fork."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from celery import signals
from interpretops_platform.jobs import worker
from interpretops_platform.jobs.lease import LeaseLostError
from interpretops_platform.jobs.worker import (
    HandBackError,
    JobCancelledError,
    JobContext,
    JobResult,
)
from interpretops_platform.telemetry.logs import bound, configure_logging
from interpretops_platform.telemetry.metrics import JOB_SECONDS, Metrics
from interpretops_platform.telemetry.traces import configure_tracing, continued

from interpretops_service.accelerator import show_accelerator
from interpretops_service.registry import handler_factory, require_handlers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops_platform.settings import Settings

Handler = Callable[[JobContext], JobResult]
HandlerFactory = Callable[["Settings"], Handler]
"""Makes a handler once per process."""

_OUTCOMES = ("made", "cancelled", "handed_back", "lost", "failed")


class JobMetrics:
    """Counts and times attempts at jobs.

    Args:
        metrics: Where they are declared.
        kinds: The kinds that this worker runs.
    """

    def __init__(self, metrics: Metrics, kinds: Sequence[str]) -> None:
        labels = {"kind": list(kinds), "outcome": _OUTCOMES}
        self._ended = metrics.counter("job_attempts_total", "Attempts that ended.", labels)
        self._seconds = metrics.histogram(
            "job_attempt_duration_seconds",
            "Time from a claim to the end of the handler.",
            {"kind": list(kinds)},
            buckets=JOB_SECONDS,
        )

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        """An attempt has ended."""
        self._ended.labels(kind=kind, outcome=outcome).inc()
        self._seconds.labels(kind=kind).observe(seconds)


class ForkedHandlers:
    """Handlers of one worker; what they need is made in the child that runs them.

    Args:
        kinds: The kinds of jobs.
        settings: Of the installation.
    """

    def __init__(self, kinds: Sequence[str], settings: Settings) -> None:
        self._kinds = kinds
        self._settings = settings
        self._name = f"worker-{'-'.join(kinds)}"
        self._handlers: dict[str, Handler] = {}
        self._metrics: JobMetrics | None = None

    def configure_logs(self, **_: object) -> None:
        """Log as every service does; Celery asks for it in each of its processes."""
        configure_logging(self._name, level=self._settings.telemetry.log_level)

    def after_fork(self, **_: object) -> None:
        """Set up what does not survive a fork: traces and the port with metrics."""
        telemetry = self._settings.telemetry
        traces = configure_tracing(self._name, telemetry)

        def flush(**_: object) -> None:
            traces.shutdown()

        signals.worker_process_shutdown.connect(flush, weak=False)
        metrics = Metrics.of_process()
        self._metrics = JobMetrics(metrics, self._kinds)
        show_accelerator(metrics)
        if telemetry.metrics_port is not None:
            metrics.expose(telemetry.metrics_host, telemetry.metrics_port)

    def run(self, context: JobContext) -> JobResult:
        """Run a job within the trace of whoever submitted it."""
        kind, began, outcome = context.kind, time.monotonic(), "failed"
        fields = {"job_id": context.job_id, "tenant": str(context.tenant_id)}
        with bound(**fields), continued(context.trace_context, f"run_job {kind}") as span:
            span.set_attribute("job.id", context.job_id)
            span.set_attribute("job.attempt", context.attempt)
            try:
                if kind not in self._handlers:
                    self._handlers[kind] = handler_factory(kind)(self._settings)
                result = self._handlers[kind](context)
                outcome = "made"
                return result
            except JobCancelledError:
                outcome = "cancelled"
                raise
            except HandBackError:
                outcome = "handed_back"
                raise
            except LeaseLostError:
                outcome = "lost"
                raise
            finally:
                span.set_attribute("job.outcome", outcome)
                if self._metrics is not None:
                    self._metrics.ended(kind, outcome, time.monotonic() - began)


def work(kinds: Sequence[str], settings: Settings) -> None:
    """Work on jobs of these kinds until SIGTERM.

    Args:
        kinds: Kinds of jobs.
        settings: Of the installation.

    Raises:
        SettingsError: When a handler is not installed, or database or broker are not set up.
    """
    names = sorted(set(kinds))
    require_handlers(names)
    settings.app_url()  # what is missing is said here, not by every attempt
    settings.system_url()
    handlers = ForkedHandlers(names, settings)
    signals.setup_logging.connect(handlers.configure_logs, weak=False)
    signals.worker_process_init.connect(handlers.after_fork, weak=False)
    worker.work(settings, dict.fromkeys(names, handlers.run))
