"""What policies in production see of the requests that they run on, counted and written by the hour.

A request costs a few additions here; nothing of its text is kept. Each replica writes rows of its own,
the whole of an hour each time, so that a write that is repeated or lost counts nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from interpretops.drift import Traffic
from interpretops.steering.reference import see
from interpretops_platform.database.engine import is_transient
from interpretops_platform.database.session import tenant_session
from interpretops_platform.traffic import hour_of, save_window
from sqlalchemy.exc import IntegrityError

if TYPE_CHECKING:
    from uuid import UUID

    from interpretops.steering import RowRecord
    from interpretops_platform.database.engine import Database
    from interpretops_platform.telemetry.metrics import Metrics

    Key = tuple[UUID, str, datetime]
    """Tenant, version of a policy, hour."""

logger = logging.getLogger(__name__)

MOST = 4096
"""Hours of policies that are kept until they are written; while the database is away the oldest go."""


class TrafficRecorder:
    """Counts what policies see, and writes it.

    Args:
        database: Where to.
        metrics: Where that is measured.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._replica = uuid4().hex
        self._seen: dict[Key, Traffic] = {}
        self._unwritten: set[Key] = set()
        self._requests = metrics.counter(
            "traffic_requests_total", "Requests that were counted for a policy in production."
        )
        self._lost = metrics.counter(
            "traffic_windows_lost_total",
            "Hours of policies that could not be written for too long.",
        )
        self._seconds = metrics.histogram(
            "traffic_write_seconds", "Time to write what was counted since the last time."
        )

    def saw(self, tenant_id: UUID, version_id: str, record: RowRecord) -> None:
        """Count a request.

        Args:
            tenant_id: Whose.
            version_id: The version of a policy (`pv_...`) that it ran under.
            record: What the policy saw of it.
        """
        key = (tenant_id, version_id, hour_of(datetime.now(UTC)))
        traffic = self._seen.get(key)
        if traffic is None:
            self._forget_if_full()
            traffic = self._seen[key] = Traffic()
        see(traffic, record)
        self._unwritten.add(key)
        self._requests.labels().inc()

    async def keep_writing(self, every_seconds: float, stop: asyncio.Event) -> None:
        """Write again and again until `stop` is set, and then once more."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every_seconds)
            last = stop.is_set()
            try:
                await self.write()
            except Exception as error:
                logger.warning(
                    "traffic will be written again: %s", error, exc_info=not is_transient(error)
                )
            if last:
                return

    async def write(self) -> None:
        """Write what was counted since the last time.

        Raises:
            Exception: When the database does not take it; it is kept for the next time.
        """
        began, now = time.monotonic(), hour_of(datetime.now(UTC))
        for key in sorted(self._unwritten, key=lambda key: key[2]):
            tenant_id, version_id, hour = key
            traffic = self._seen[key]
            # Made before the first wait: requests go on being counted.
            body, requests = traffic.model_dump(mode="json"), traffic.requests
            self._unwritten.discard(key)
            try:
                async with tenant_session(self._database, tenant_id) as session:
                    await save_window(
                        session,
                        tenant_id,
                        policy_id=version_id,
                        hour=hour,
                        replica=self._replica,
                        requests=requests,
                        body=body,
                    )
            except IntegrityError:  # the tenant was shredded, and its policies with it
                self._seen.pop(key, None)
            except BaseException:
                self._unwritten.add(key)
                raise
        for key in [key for key in self._seen if key[2] < now and key not in self._unwritten]:
            del self._seen[key]
        self._seconds.labels().observe(time.monotonic() - began)

    def _forget_if_full(self) -> None:
        if len(self._seen) < MOST:
            return
        oldest = min(self._seen, key=lambda key: key[2])
        del self._seen[oldest]
        if oldest in self._unwritten:
            self._unwritten.discard(oldest)
            self._lost.labels().inc()
