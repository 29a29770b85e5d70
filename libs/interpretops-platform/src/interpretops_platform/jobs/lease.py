"""The lease of a running job: who may write to it, and until when.

A claim raises `attempt`, which is the fencing token. Every later write names the token and its owner,
so that a worker which froze, lost its lease and woke changes nothing any more: it gets
`LeaseLostError` instead. Leases are measured by the clock of the database alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, or_, select, update

from interpretops_platform.database.models import JSON, Job
from interpretops_platform.database.session import system_session
from interpretops_platform.errors import PlatformError
from interpretops_platform.jobs.records import announce, record_event
from interpretops_platform.jobs.states import FINAL_EVENTS, EventType, JobState

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database

_LONGEST_RETRY_DELAY = timedelta(hours=1)
_PLAIN = {"synchronize_session": False}  # no object in memory is used after the statement


class LeaseLostError(PlatformError):
    """The job belongs to another attempt by now, or is over."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(
            f"attempt {lease.token} of {lease.job_id} no longer holds its lease",
            fix="stop; whatever this attempt still does is ignored",
        )


@dataclass(frozen=True)
class Lease:
    """The right to write to a running job.

    Attributes:
        job_id: The job.
        tenant_id: Whose it is; every write happens in a session of this tenant.
        owner: The worker.
        token: The attempt; it grows with every claim.
    """

    job_id: str
    tenant_id: UUID
    owner: str
    token: int


@dataclass(frozen=True)
class ClaimedJob:
    """A lease and what its holder is to do."""

    lease: Lease
    kind: str
    spec: JSON
    inputs: JSON
    checkpoint_uri: str | None
    trace_context: JSON


async def claim(
    database: Database, job_id: str, *, kinds: Collection[str], owner: str, lease_seconds: float
) -> ClaimedJob | None:
    """Take a job that is queued, or whose holder has been silent for longer than its lease.

    Args:
        database: Pools of this process.
        job_id: The job a hint named; the hint may be late, repeated or wrong.
        kinds: What this worker has handlers for.
        owner: Names this worker; no other one uses the same name.
        lease_seconds: How long the lease runs without a heartbeat.

    Returns:
        The job, or none where there is nothing to do.
    """
    now = func.clock_timestamp()
    statement = (
        update(Job)
        .where(
            Job.id == job_id,
            Job.kind.in_(kinds),
            Job.available_at <= now,
            or_(
                Job.state == JobState.QUEUED,
                (Job.state == JobState.RUNNING) & (Job.lease_until < now),
            ),
            ~Job.cancel_requested,
            Job.attempt - Job.handed_back < Job.max_attempts,
        )
        .values(
            state=JobState.RUNNING,
            attempt=Job.attempt + 1,
            lease_owner=owner,
            lease_until=now + timedelta(seconds=lease_seconds),
            started_at=func.coalesce(Job.started_at, now),
        )
        .returning(Job)
    )
    async with system_session(database) as session:
        job = await session.scalar(statement, execution_options=_PLAIN)
        if job is None:
            return None
        body = {"attempt": job.attempt}
        await record_event(session, job.tenant_id, job.id, EventType.STARTED, body)
    lease = Lease(job.id, job.tenant_id, owner, job.attempt)
    return ClaimedJob(lease, job.kind, job.spec, job.inputs, job.checkpoint_uri, job.trace_context)


async def heartbeat(
    session: AsyncSession, lease: Lease, *, lease_seconds: float, progress: JSON | None = None
) -> bool:
    """Extend the lease, and publish progress where there is some.

    Returns:
        Whether somebody asked for the job to be cancelled.

    Raises:
        LeaseLostError: When another attempt took over; the caller must stop.
    """
    values: dict[str, Any] = {
        "lease_until": func.clock_timestamp() + timedelta(seconds=lease_seconds)
    }
    if progress is not None:
        values["progress"] = progress
    job = await _held(session, lease)
    await _write(session, job, values)
    if progress is not None:
        await record_event(session, lease.tenant_id, lease.job_id, EventType.PROGRESS, progress)
    return job.cancel_requested


async def save_checkpoint(session: AsyncSession, lease: Lease, uri: str) -> None:
    """Say where the next attempt finds what this one has finished.

    Raises:
        LeaseLostError: When another attempt took over.
    """
    await _write(session, await _held(session, lease), {"checkpoint_uri": uri})


async def finish(
    session: AsyncSession,
    lease: Lease,
    *,
    result_artifact_id: str | None = None,
    progress: JSON | None = None,
) -> bool:
    """Accept the result; rows of the result belong into the same transaction.

    Returns:
        Whether it was accepted now; false where an earlier call did, whose answer was lost.

    Raises:
        LeaseLostError: When another attempt took over; the transaction must be rolled back.
    """
    values: dict[str, Any] = {"result_artifact_id": result_artifact_id, "error": None}
    if progress is not None:
        values["progress"] = progress
    job = await _newest(session, lease)
    if job.state == JobState.SUCCEEDED:
        return False
    body = {"artifact_id": result_artifact_id}
    await _end(session, _running(job, lease), JobState.SUCCEEDED, values, body)
    return True


async def fail(
    session: AsyncSession, lease: Lease, error: JSON, *, retry: bool, retry_seconds: float
) -> JobState:
    """End an attempt that did not work out.

    Args:
        session: A session of the job's tenant.
        lease: The lease of the attempt.
        error: What went wrong, fit for the tenant's eyes.
        retry: Whether another attempt could go better; a mistake of the caller is not tried again.
        retry_seconds: Delay before the second attempt; it doubles with every further one.

    Returns:
        QUEUED where it will be tried again, else the final state.

    Raises:
        LeaseLostError: When another attempt took over.
    """
    job = await _held(session, lease)
    error = {**error, "attempt": lease.token}
    used = job.attempt - job.handed_back
    if retry and job.cancel_requested:
        await _end(session, job, JobState.CANCELLED, {"error": error}, {})
        return JobState.CANCELLED
    if retry and used < job.max_attempts:
        delay = min(timedelta(seconds=retry_seconds) * 2 ** (used - 1), _LONGEST_RETRY_DELAY)
        values = {"error": error, "available_at": func.clock_timestamp() + delay}
        await requeue(session, job, values, EventType.RETRYING, error)
        return JobState.QUEUED
    state = JobState.DEAD_LETTERED if retry else JobState.FAILED
    await _end(session, job, state, {"error": error}, error)
    return state


async def hand_back(session: AsyncSession, lease: Lease) -> None:
    """Return unfinished work to the queue because this worker shuts down; it counts as no failure.

    Raises:
        LeaseLostError: When another attempt took over.
    """
    job = await _held(session, lease)
    if job.cancel_requested:
        await _end(session, job, JobState.CANCELLED, {}, {})
    else:
        values = {"handed_back": job.handed_back + 1}
        await requeue(session, job, values, EventType.HANDED_BACK, {})


async def stop_cancelled(session: AsyncSession, lease: Lease) -> None:
    """End a job whose handler stopped because it was asked to.

    Raises:
        LeaseLostError: When another attempt took over.
    """
    await _end(session, await _held(session, lease), JobState.CANCELLED, {}, {})


async def requeue(
    session: AsyncSession, job: Job, values: dict[str, Any], event: EventType, body: JSON
) -> None:
    """Put a locked, running job back into its queue."""
    await _write(session, job, {**values, "state": JobState.QUEUED, "lease_until": None})
    await record_event(session, job.tenant_id, job.id, event, {**body, "attempt": job.attempt})
    await announce(session, job.tenant_id, job.id, job.kind)


async def end(session: AsyncSession, job: Job, state: JobState, error: JSON) -> None:
    """Bring a locked job into a final state with an error."""
    await _end(session, job, state, {"error": error}, error)


async def _end(
    session: AsyncSession, job: Job, state: JobState, values: dict[str, Any], body: JSON
) -> None:
    # `lease_owner` stays, so that a repeated `finish` recognises its own work.
    final = {"state": state, "lease_until": None, "finished_at": func.clock_timestamp()}
    await _write(session, job, {**values, **final})
    body = {**body, "attempt": job.attempt}
    await record_event(session, job.tenant_id, job.id, FINAL_EVENTS[state], body)


async def _held(session: AsyncSession, lease: Lease) -> Job:
    return _running(await _newest(session, lease), lease)


def _running(job: Job, lease: Lease) -> Job:
    if job.state != JobState.RUNNING:
        raise LeaseLostError(lease)
    return job


async def _newest(session: AsyncSession, lease: Lease) -> Job:
    """The row of the job if this lease is still the newest, locked until the transaction ends."""
    statement = (
        select(Job)
        .where(Job.id == lease.job_id, Job.attempt == lease.token, Job.lease_owner == lease.owner)
        .with_for_update()
    )
    job: Job | None = await session.scalar(statement)
    if job is None:
        raise LeaseLostError(lease)
    return job


async def _write(session: AsyncSession, job: Job, values: dict[str, Any]) -> None:
    # As a statement of its own: assigning to the object would write when the session flushes, which
    # is after the event.
    statement = update(Job).where(Job.id == job.id).values(values)
    await session.execute(statement, execution_options=_PLAIN)
