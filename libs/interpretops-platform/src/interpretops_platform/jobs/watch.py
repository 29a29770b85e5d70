"""Follow a job from any point of its history to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from interpretops_platform.database.models import JSON, Job, JobEvent
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.cancel import no_such_job
from interpretops_platform.jobs.states import FINAL_EVENTS, EventType, JobState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database

_BATCH = 500


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    Attributes:
        cursor: Give it as `after` to go on from here.
        type: What happened.
        body: Its details.
        at: When, by the clock of the database.
    """

    cursor: int
    type: EventType
    body: JSON
    at: datetime


async def get_job(session: AsyncSession, job_id: str) -> Job:
    """A job as it is now.

    Raises:
        NotFoundError: When this tenant has no such job.
    """
    job = await session.scalar(select(Job).where(Job.id == job_id))
    if job is None:
        raise no_such_job(job_id)
    return job


async def watch(
    database: Database, tenant_id: UUID, job_id: str, *, after: int = 0, poll_seconds: float
) -> AsyncIterator[Event]:
    """Every event of a job after a cursor, as they come, until the job is over.

    No connection is held between two looks, so many may watch at once.

    Args:
        database: Pools of this process.
        tenant_id: Who asks.
        job_id: The job.
        after: The last cursor seen; 0 begins at the beginning.
        poll_seconds: How often to look.

    Raises:
        NotFoundError: When this tenant has no such job.
    """
    while True:
        async with tenant_session(database, tenant_id) as session:
            # The state first: an event that comes after it was read is seen in the next round.
            state = JobState((await get_job(session, job_id)).state)
            rows = (
                await session.scalars(
                    select(JobEvent)
                    .where(JobEvent.job_id == job_id, JobEvent.id > after)
                    .order_by(JobEvent.id)
                    .limit(_BATCH)
                )
            ).all()
        for row in rows:
            after = row.id
            event = Event(row.id, EventType(row.type), row.body, row.at)
            yield event
            if event.type in FINAL_EVENTS.values():
                return
        if not rows:
            if state.final:
                return
            await asyncio.sleep(poll_seconds)
