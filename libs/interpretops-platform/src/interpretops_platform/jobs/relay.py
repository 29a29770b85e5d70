"""Carry hints from the outbox to the broker, and repeat those that may have been lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import func, or_, select, update

from interpretops_platform.database.models import Job, Outbox
from interpretops_platform.database.session import system_session
from interpretops_platform.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops_platform.database.engine import Database

_BATCH = 200


class BrokerError(Exception):
    """The broker did not take or answer something; trying again later is all there is to do."""


class Broker(Protocol):
    """Where hints go. Its methods block; they are called from a thread."""

    def send(self, queue: str, job_id: str, priority: int) -> None:
        """Put a hint into a queue.

        Raises:
            BrokerError: When the broker did not take it.
        """
        ...

    def depth(self, queue: str) -> int:
        """How many hints wait in a queue.

        Raises:
            BrokerError: When the broker does not answer.
        """
        ...


async def relay(database: Database, broker: Broker, *, hint_seconds: float) -> int:
    """Send hints of queued jobs, the most urgent first.

    Hints that were never sent go out. A hint that was sent longer ago than `hint_seconds` and is
    still not taken goes out again if its queue is empty at the broker, for then it is lost. Where
    the queue is not empty, workers are merely busy, and repeating would only pile up.

    A hint is marked after the broker took it. A relay that dies in between sends it twice, which a
    claim makes harmless. Several relays may run: each skips the rows another one has locked.

    Args:
        database: Pools of this process.
        broker: Where hints go.
        hint_seconds: Age at which a hint that was sent is suspected to be lost.

    Returns:
        How many hints the broker took.

    Raises:
        BrokerError: When the broker took none or not all of them; the rest goes out next time.
    """
    now = func.clock_timestamp()
    waiting = (Job.state == JobState.QUEUED) & (Job.available_at <= now)
    stale = Outbox.sent_at < now - timedelta(seconds=hint_seconds)
    join = (Job.tenant_id == Outbox.tenant_id) & (Job.id == Outbox.job_id)
    async with system_session(database) as session:
        queues = await session.scalars(
            select(Outbox.queue).join(Job, join).where(waiting, stale).distinct()
        )
        emptied = await asyncio.to_thread(_empty, broker, queues.all())
        due = (
            select(Outbox.id, Outbox.queue, Outbox.job_id, Job.priority)
            .join(Job, join)
            .where(waiting, or_(Outbox.sent_at.is_(None), stale & Outbox.queue.in_(emptied)))
            .order_by(Job.priority, Outbox.id)
            .limit(_BATCH)
            .with_for_update(of=Outbox, skip_locked=True)
        )
        rows = (await session.execute(due)).all()
        # A job that was queued again has older rows too; one hint serves all of them.
        hints = {row.job_id: (row.queue, row.job_id, row.priority) for row in rows}
        taken, refusal = await asyncio.to_thread(_send, broker, list(hints.values()))
        marked = [row.id for row in rows if row.job_id in taken]
        if marked:
            await session.execute(update(Outbox).where(Outbox.id.in_(marked)).values(sent_at=now))
    if refusal is not None:
        raise refusal
    return len(taken)


def _empty(broker: Broker, queues: Sequence[str]) -> list[str]:
    return [queue for queue in queues if broker.depth(queue) == 0]


def _send(
    broker: Broker, hints: Sequence[tuple[str, str, int]]
) -> tuple[set[str], BrokerError | None]:
    taken: set[str] = set()
    for queue, job_id, priority in hints:
        try:
            broker.send(queue, job_id, priority)
        except BrokerError as error:
            return taken, error
        taken.add(job_id)
    return taken, None
