"""Ask for a job to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from interpretops_platform.database.models import Job
from interpretops_platform.errors import NotFoundError
from interpretops_platform.jobs.records import record_event
from interpretops_platform.jobs.states import EventType, JobState

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


async def cancel(session: AsyncSession, job_id: str) -> JobState:
    """Cancel a queued job now, and a running one at its next step boundary.

    A job that is over stays as it is. Cancelling twice is cancelling once.

    Args:
        session: A `tenant_session`.
        job_id: The job.

    Returns:
        The state the job is in now; RUNNING means that its worker has been asked.

    Raises:
        NotFoundError: When this tenant has no such job.
    """
    job = await session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None:
        raise no_such_job(job_id)
    state = JobState(job.state)
    if state.final or job.cancel_requested:
        return state
    values: dict[str, object] = {"cancel_requested": True}
    event, body = EventType.CANCEL_REQUESTED, {"attempt": job.attempt, "from": state}
    if state is JobState.QUEUED:
        state, event = JobState.CANCELLED, EventType.CANCELLED
        values |= {"state": state, "finished_at": func.clock_timestamp()}
    await session.execute(update(Job).where(Job.id == job_id).values(values))
    await record_event(session, job.tenant_id, job_id, event, body)
    return state


def no_such_job(job_id: str) -> NotFoundError:
    """The error for a job that does not exist for this tenant."""
    return NotFoundError(f"there is no job {job_id}", fix="list the jobs you have")
