"""What policies saw of their traffic, kept by the hour: rows of several replicas, added up by readers.

What the counts mean is the engine's affair; here they are documents.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from interpretops_platform.database.models import JSON, TrafficWindow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession


def hour_of(moment: datetime) -> datetime:
    """The hour that a moment belongs to."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


async def save_window(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    policy_id: str,
    hour: datetime,
    replica: str,
    requests: int,
    body: JSON,
) -> None:
    """Write what a replica has seen of an hour so far, in place of what it wrote before.

    Args:
        session: A `tenant_session`.
        tenant_id: The tenant of that session.
        policy_id: The version of a policy (`pv_...`).
        hour: When it begins.
        replica: Who saw it; unique among all processes there ever were.
        requests: How many.
        body: The counts.
    """
    values = {"requests": requests, "body": body}
    row = {
        "tenant_id": tenant_id,
        "policy_id": policy_id,
        "hour": hour,
        "replica": replica,
        **values,
    }
    statement = insert(TrafficWindow).values(row)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "policy_id", "hour", "replica"],
            set_={**values, "updated_at": func.now()},
        )
    )


async def windows(
    session: AsyncSession,
    policy_id: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
) -> Sequence[TrafficWindow]:
    """The windows of a version of a policy, oldest first.

    Args:
        session: A `tenant_session`.
        policy_id: The version (`pv_...`).
        since: Only hours that begin then or later.
        until: Only hours that begin before.
        limit: How many rows at most.
    """
    statement = select(TrafficWindow).where(TrafficWindow.policy_id == policy_id)
    if since is not None:
        statement = statement.where(TrafficWindow.hour >= since)
    if until is not None:
        statement = statement.where(TrafficWindow.hour < until)
    statement = statement.order_by(TrafficWindow.hour, TrafficWindow.replica)
    if limit is not None:
        statement = statement.limit(limit)
    fresh = {"populate_existing": True}  # rows are written again and again
    return (await session.scalars(statement, execution_options=fresh)).all()


async def delete_old_windows(session: AsyncSession, retention: timedelta) -> int:
    """Delete the session's tenant's windows that have had their time; gives how many."""
    old = TrafficWindow.hour < func.clock_timestamp() - retention
    gone = await session.execute(delete(TrafficWindow).where(old).returning(TrafficWindow.hour))
    return len(gone.all())
