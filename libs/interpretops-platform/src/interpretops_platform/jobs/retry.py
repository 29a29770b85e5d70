"""Ask for work again that did not succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import update

from interpretops_platform.database.models import Job
from interpretops_platform.errors import PlatformError
from interpretops_platform.jobs.states import JobState
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.jobs.watch import get_job

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

_AGAIN = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.DEAD_LETTERED})


class NotToBeRetriedError(PlatformError):
    """The job is not over, or it succeeded."""


async def retry(session: AsyncSession, tenant_id: UUID, job_id: str, *, created_by: str) -> Job:
    """A new job with the request of one that failed, was cancelled or was given up.

    It goes on from the last checkpoint of the old one, which stays as it is. A job is asked for again
    once: to ask twice gives the same new job.

    Args:
        session: A `tenant_session`.
        tenant_id: The tenant of that session.
        job_id: The job that did not succeed.
        created_by: Subject of the caller.

    Raises:
        NotFoundError: When this tenant has no such job.
        NotToBeRetriedError: When the job is not over, or it succeeded.
    """
    job = await get_job(session, job_id)
    if JobState(job.state) not in _AGAIN:
        over = JobState(job.state).final
        raise NotToBeRetriedError(
            f"{job_id} {'succeeded' if over else 'is not over'}",
            fix="use its result" if over else "cancel it first, or wait until it is over",
        )
    request = JobRequest(
        kind=job.kind,
        spec=job.spec,
        inputs=job.inputs,
        idempotency_key=f"retry:{job_id}",
        priority=job.priority,
        max_attempts=job.max_attempts,
        trace_context=job.trace_context,
        created_by=created_by,
    )
    again = await submit(session, tenant_id, request)
    if again.created and job.checkpoint_uri is not None:
        await session.execute(
            update(Job).where(Job.id == again.job.id).values(checkpoint_uri=job.checkpoint_uri)
        )
    return again.job
