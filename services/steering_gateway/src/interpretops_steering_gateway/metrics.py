"""What is measured of generation; labels never hold a tenant, a policy or a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interpretops.serving import Finished, StepReport
    from interpretops_platform.telemetry.metrics import Metrics

OUTCOMES = ("stop", "length", "refused", "late", "cancelled", "failed")
"""How a request ends."""
MODES = ("bare", "steered", "shadow")
"""Without a policy, under one, or beside one."""


class ServingMetrics:
    """The metrics of one process.

    Args:
        metrics: Where they are declared.
    """

    def __init__(self, metrics: Metrics) -> None:
        modes = {"mode": MODES}
        self._requests = metrics.counter(
            "generation_requests_total",
            "Requests that ended, by outcome.",
            {**modes, "outcome": OUTCOMES},
        )
        self._first = metrics.histogram(
            "generation_time_to_first_token_seconds",
            "From a request's acceptance to its first token.",
            modes,
        )
        self._queue = metrics.histogram(
            "generation_queue_seconds", "From a request's acceptance until its prompt was read."
        )
        self._tokens = metrics.counter(
            "generation_tokens_total",
            "Tokens computed: of prompts that were read, and of answers.",
            {"kind": ("prompt", "answer")},
        )
        self._forward = metrics.counter(
            "generation_forward_seconds_total",
            "Time in forwards; tokens of a kind over this is its pace.",
            {"kind": ("prompt", "answer")},
        )
        self._steering = metrics.counter(
            "generation_steering_seconds_total",
            "Time of forwards that went into policies; over that of forwards it is their overhead.",
        )
        self._rows = metrics.histogram(
            "generation_rows_count",
            "Rows that made a token together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self._waiting = metrics.gauge("generation_waiting_count", "Requests that wait for a place.")
        self._fired = metrics.counter(
            "policy_decisions_total",
            "Requests under a policy, by whether it acted.",
            {"fired": ("yes", "no")},
        )
        self._changed = metrics.counter(
            "policy_shadow_answers_total",
            "Answers in shadow mode, by whether the policy would have changed them.",
            {"changed": ("yes", "no")},
        )
        self._resident = metrics.gauge("policies_resident_count", "Policies that are kept ready.")
        self._loading = metrics.histogram(
            "policy_load_seconds", "Time to fetch and bind a policy that was not ready."
        )

    def stepped(self, report: StepReport) -> None:
        """The engine has made a step; called in its thread."""
        for kind, count, seconds in (
            ("prompt", report.prompt_tokens, report.prompt_seconds),
            ("answer", report.rows, report.row_seconds),
        ):
            if count:
                self._tokens.labels(kind=kind).inc(count)
                self._forward.labels(kind=kind).inc(seconds)
        if report.rows:
            self._rows.labels().observe(report.rows)
        self._steering.labels().inc(report.steering_seconds)
        self._waiting.labels().set(report.waiting)

    def started(self, queue_seconds: float) -> None:
        """A prompt was read."""
        self._queue.labels().observe(queue_seconds)

    def finished(self, finished: Finished, mode: str) -> None:
        """A request was answered."""
        self.ended(mode, finished.reason)
        if finished.usage.first_token_seconds is not None:
            self._first.labels(mode=mode).observe(finished.usage.first_token_seconds)
        if finished.record is not None:
            self._fired.labels(fired="yes" if finished.record.fired else "no").inc()
        if finished.shadow is not None:
            changed = finished.shadow.first_difference is not None
            self._changed.labels(changed="yes" if changed else "no").inc()

    def ended(self, mode: str, outcome: str) -> None:
        """A request ended."""
        self._requests.labels(mode=mode, outcome=outcome).inc()

    def resident(self, count: int) -> None:
        """So many policies are ready."""
        self._resident.labels().set(count)

    def loaded(self, seconds: float) -> None:
        """A policy was made ready."""
        self._loading.labels().observe(seconds)
