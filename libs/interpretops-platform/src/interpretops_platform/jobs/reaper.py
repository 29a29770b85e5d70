"""Bring jobs of silent workers back, give up on poison, and sweep hints that served their purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from interpretops_platform.database.models import Job, Outbox
from interpretops_platform.database.session import system_session
from interpretops_platform.jobs.lease import end, requeue
from interpretops_platform.jobs.states import EventType, JobState

if TYPE_CHECKING:
    from interpretops_platform.database.engine import Database

_BATCH = 100
_SWEEP = 1000


@dataclass(frozen=True)
class Reaped:
    """How many expired leases ended in what."""

    requeued: int = 0
    dead_lettered: int = 0
    cancelled: int = 0


async def reap(database: Database) -> Reaped:
    """Deal with leases that have expired, a bounded number at a time.

    Several reapers may run: each skips the rows that another one has locked, and a worker whose
    heartbeat comes first keeps its job.
    """
    expired = (
        select(Job)
        .where(Job.state == JobState.RUNNING, Job.lease_until < func.clock_timestamp())
        .order_by(Job.lease_until)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    counts = {JobState.QUEUED: 0, JobState.DEAD_LETTERED: 0, JobState.CANCELLED: 0}
    async with system_session(database) as session:
        for job in await session.scalars(expired):
            error = {
                "type": "LeaseExpired",
                "problem": "the worker stopped answering",
                "fix": "look at the memory and the log of the worker if it happens again",
                "retryable": True,
                "attempt": job.attempt,
            }
            if job.cancel_requested:
                state = JobState.CANCELLED
                await end(session, job, state, error)
            elif job.attempt - job.handed_back >= job.max_attempts:
                state = JobState.DEAD_LETTERED
                await end(session, job, state, error)
            else:
                state = JobState.QUEUED
                await requeue(session, job, {"error": error}, EventType.LEASE_EXPIRED, error)
            counts[state] += 1
    return Reaped(
        counts[JobState.QUEUED], counts[JobState.DEAD_LETTERED], counts[JobState.CANCELLED]
    )


async def sweep(database: Database) -> int:
    """Delete hints of jobs that wait no longer.

    Returns:
        How many were deleted.
    """
    served = (
        select(Outbox.id)
        .join(Job, (Job.tenant_id == Outbox.tenant_id) & (Job.id == Outbox.job_id))
        .where(Job.state != JobState.QUEUED)
        .limit(_SWEEP)
        .with_for_update(of=Outbox, skip_locked=True)
    )
    async with system_session(database) as session:
        gone = await session.scalars(
            delete(Outbox).where(Outbox.id.in_(served)).returning(Outbox.id)
        )
        return len(gone.all())
