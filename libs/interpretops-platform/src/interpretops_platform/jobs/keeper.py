"""The process that keeps jobs moving: relay, reaper and sweep, for as long as it lives.

Any number may run. None of them holds state, so killing one loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from interpretops_platform.database.engine import is_transient
from interpretops_platform.jobs.reaper import reap, sweep
from interpretops_platform.jobs.relay import Broker, BrokerError, relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from interpretops_platform.database.engine import Database
    from interpretops_platform.jobs.observe import QueueMetrics
    from interpretops_platform.settings import JobsSettings

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 5.0


async def keep_jobs_moving(
    database: Database,
    broker: Broker,
    settings: JobsSettings,
    stop: asyncio.Event,
    metrics: QueueMetrics | None = None,
) -> None:
    """Relay, reap and sweep until `stop` is set, and show the queues where there are metrics.

    A database or broker that does not answer is waited for; anything else ends the process, whose
    supervisor starts it again.
    """

    async def send() -> None:
        while await relay(database, broker, hint_seconds=settings.hint_seconds):
            pass  # a full batch may have left more

    async def tidy() -> None:
        reaped = await reap(database)
        if reaped.requeued or reaped.dead_lettered or reaped.cancelled:
            _LOG.warning("expired leases: %s", reaped)
        await sweep(database)
        if metrics is not None:
            metrics.reaped(reaped)
            await metrics.look(database)

    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat(send, settings.relay_seconds, stop))
        group.create_task(_repeat(tidy, settings.reaper_seconds, stop))


async def _repeat(
    work: Callable[[], Awaitable[None]], every_seconds: float, stop: asyncio.Event
) -> None:
    pause = every_seconds
    while not stop.is_set():
        try:
            await work()
            pause = every_seconds
        except Exception as error:
            if not (isinstance(error, BrokerError) or is_transient(error)):
                raise
            pause = min(max(pause, 0.1) * 2, max(_LONGEST_PAUSE, every_seconds))
            _LOG.warning("trying again in %.1f s: %s", pause, str(error).partition("\n")[0])
        try:
            await asyncio.wait_for(stop.wait(), pause)
        except TimeoutError:
            continue
