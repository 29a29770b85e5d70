"""The two rows that go with a change of a job: the event for watchers and the hint for workers.

Whoever writes one has first changed or locked the row of the job in the same transaction. Events of
one job are therefore committed in the order of their ids, and a cursor never skips one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert

from interpretops_platform.database.models import JSON, JobEvent, Outbox

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.jobs.states import EventType


async def record_event(
    session: AsyncSession, tenant_id: UUID, job_id: str, event: EventType, body: JSON | None = None
) -> None:
    """Tell the watchers of a job what happened."""
    # Inline, because not every role that writes these rows may read them back.
    values = {"tenant_id": tenant_id, "job_id": job_id, "type": event, "body": body or {}}
    await session.execute(insert(JobEvent).inline().values(values))


async def announce(session: AsyncSession, tenant_id: UUID, job_id: str, kind: str) -> None:
    """Leave a hint in the outbox that a job of this kind is queued."""
    values = {"tenant_id": tenant_id, "job_id": job_id, "queue": kind}
    await session.execute(insert(Outbox).inline().values(values))
