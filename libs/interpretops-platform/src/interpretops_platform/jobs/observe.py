"""What the keeper shows of queues: how much waits, how long, and whether anybody works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from interpretops_platform.database.models import Job, Outbox
from interpretops_platform.database.session import system_session
from interpretops_platform.jobs.states import JobState
from interpretops_platform.telemetry.metrics import OTHER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops_platform.database.engine import Database
    from interpretops_platform.jobs.reaper import Reaped
    from interpretops_platform.telemetry.metrics import Metrics


class QueueMetrics:
    """Figures about the jobs of all tenants. Every keeper shows the same queues, so take the maximum.

    Args:
        metrics: Where they are declared.
        kinds: The kinds that are shown by name; others are shown together.
    """

    def __init__(self, metrics: Metrics, kinds: Sequence[str]) -> None:
        by_kind = {"kind": kinds}
        self._kinds = kinds
        self._waiting = metrics.gauge("jobs_waiting_count", "Jobs that wait for a worker.", by_kind)
        self._running = metrics.gauge("jobs_running_count", "Jobs that hold a lease.", by_kind)
        self._oldest = metrics.gauge(
            "jobs_oldest_waiting_seconds", "How long the oldest of them could have run.", by_kind
        )
        self._unsent = metrics.gauge("outbox_unsent_count", "Hints that no broker has taken.")
        self._lag = metrics.gauge("outbox_lag_seconds", "Age of the oldest hint that can be sent.")
        self._lost = metrics.counter(
            "leases_expired_total",
            "Leases that this keeper found expired, by what became of the job.",
            {"outcome": ["requeued", "dead_lettered", "cancelled"]},
        )

    def reaped(self, reaped: Reaped) -> None:
        """Count what the reaper did."""
        for outcome, count in vars(reaped).items():
            self._lost.labels(outcome=outcome).inc(count)

    async def look(self, database: Database) -> None:
        """Look at the queues."""
        now = func.clock_timestamp()
        available = Job.available_at <= now
        jobs = (
            select(
                Job.kind,
                func.count().filter(Job.state == JobState.QUEUED),
                func.count().filter(Job.state == JobState.RUNNING),
                func.extract(
                    "epoch",
                    now
                    - func.min(Job.available_at).filter(Job.state == JobState.QUEUED, available),
                ),
            )
            .where(Job.finished_at.is_(None))
            .group_by(Job.kind)
        )
        unsent = (
            select(func.count(), func.extract("epoch", now - func.min(Job.available_at)))
            .select_from(Outbox)
            .join(Job, (Job.tenant_id == Outbox.tenant_id) & (Job.id == Outbox.job_id))
            .where(Outbox.sent_at.is_(None), Job.state == JobState.QUEUED, available)
        )
        async with system_session(database) as session:
            rows = (await session.execute(jobs)).all()
            count, lag = (await session.execute(unsent)).one()
        self._unsent.labels().set(count)
        self._lag.labels().set(max(0.0, float(lag or 0)))
        # A queue that emptied says so.
        figures = dict.fromkeys((*self._kinds, OTHER), (0, 0, 0.0))
        for kind, waiting, running, oldest in rows:
            name = kind if kind in self._kinds else OTHER
            before = figures[name]
            age = max(before[2], float(oldest or 0))
            figures[name] = (before[0] + waiting, before[1] + running, age)
        for kind, (waiting, running, age) in figures.items():
            self._waiting.labels(kind=kind).set(waiting)
            self._running.labels(kind=kind).set(running)
            self._oldest.labels(kind=kind).set(age)
