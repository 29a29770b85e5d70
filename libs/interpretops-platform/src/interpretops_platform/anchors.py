"""Anchors of audit chains: their heads, noted where whoever takes over the database cannot reach.

A chain that was cut off or rewritten to its end is sound in itself. So the keeper walks every chain and
notes its newest entry in a bucket of its own. With Object Lock on that bucket, nobody can delete or
replace an anchor before its time, this process included; and an anchor that somebody adds beside it
contradicts the chain, or the one that was there.

The name of an anchor says all it has to say, so that looking them up is listing them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from interpretops_platform.audit import AuditBrokenError, Head, verify
from interpretops_platform.database.engine import is_transient
from interpretops_platform.database.models import Tenant
from interpretops_platform.database.session import system_session, tenant_session
from interpretops_platform.errors import PlatformError
from interpretops_platform.objects.file import FileBlobs

if TYPE_CHECKING:
    from uuid import UUID

    from interpretops_platform.audit_settings import AuditSettings
    from interpretops_platform.database.engine import Database
    from interpretops_platform.objects.blobs import Blobs
    from interpretops_platform.settings import Settings
    from interpretops_platform.telemetry.metrics import Metrics

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"(?P<seq>[0-9]{19})-(?P<hash>[0-9a-f]{64})\.json", re.ASCII)


class AuditAnchors:
    """The heads that were noted, by tenant. Its methods block.

    Args:
        blobs: Where they are kept.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def note(self, tenant_id: UUID, head: Head) -> bool:
        """Note a head, unless it is noted already or there is nothing to note.

        Returns:
            Whether it is new.

        Raises:
            StoreUnavailableError: When it cannot be noted now.
        """
        key = f"{_prefix(tenant_id)}{head.seq:019d}-{head.hash}.json"
        if head.seq == 0 or self._blobs.written_at(key) is not None:
            return False
        content = {
            "tenant": str(tenant_id),
            "seq": head.seq,
            "hash": head.hash,
            "noted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(content, file)
            file.flush()
            self._blobs.write(key, Path(file.name))
        return True

    def noted(self, tenant_id: UUID) -> list[Head]:
        """Every head that was ever noted, the oldest first.

        Raises:
            StoreUnavailableError: When that cannot be told now.
        """
        prefix = _prefix(tenant_id)
        names = (_NAME.fullmatch(key.removeprefix(prefix)) for key in self._blobs.ever(prefix))
        return sorted({Head(int(name["seq"]), name["hash"]) for name in names if name})


class Anchored(NamedTuple):
    """What one round found.

    Attributes:
        noted: How many heads were noted.
        broken: By tenant, what is wrong with its chain.
    """

    noted: int
    broken: dict[UUID, AuditBrokenError]


class AnchorMetrics:
    """Figures about the rounds of this keeper.

    Args:
        metrics: Where they are declared.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._at = metrics.gauge(
            "audit_anchored_timestamp_seconds", "When every audit chain was last walked and noted."
        )
        self._broken = metrics.gauge(
            "audit_broken_chains_count", "Audit chains that are not the ones that were written."
        )

    def show(self, anchored: Anchored) -> None:
        """Show what a round found."""
        self._at.labels().set(time.time())
        self._broken.labels().set(len(anchored.broken))


def open_anchors(settings: Settings) -> AuditAnchors | None:
    """Where heads are noted; none where that is not set up.

    Raises:
        SettingsError: When the bucket is set up in a way that cannot work.
    """
    audit = settings.audit
    if audit.anchor_folder is not None:
        return AuditAnchors(FileBlobs(audit.anchor_folder))
    if audit.anchor_bucket is None:
        return None
    from interpretops_platform.objects.s3 import S3Blobs

    objects = settings.object_settings().model_copy(update={"bucket": audit.anchor_bucket})
    return AuditAnchors(S3Blobs(objects))


async def anchor(database: Database, anchors: AuditAnchors) -> Anchored:
    """Walk the chain of every tenant and note its head; a broken chain is not noted.

    Raises:
        StoreUnavailableError: When anchors cannot be listed or noted now.
    """
    async with system_session(database) as session:
        tenants = (await session.scalars(select(Tenant.id))).all()
    noted, broken = 0, {}
    for tenant_id in tenants:
        try:
            head = await verify_anchored(database, tenant_id, anchors)
        except AuditBrokenError as error:
            broken[tenant_id] = error
        else:
            noted += await asyncio.to_thread(anchors.note, tenant_id, head)
    return Anchored(noted, broken)


async def verify_anchored(
    database: Database, tenant_id: UUID, anchors: AuditAnchors | None, *known: Head
) -> Head:
    """Walk a tenant's chain and hold it against its anchors.

    Args:
        database: Pools with the app's login.
        tenant_id: Whose chain.
        anchors: From `open_anchors`.
        known: Heads noted elsewhere.

    Raises:
        AuditBrokenError: At the first entry that is not the one that was written.
        StoreUnavailableError: When anchors cannot be listed now.
    """
    # Listed before the walk: one that is noted meanwhile may be of an entry the walk did not see.
    noted = [] if anchors is None else await asyncio.to_thread(anchors.noted, tenant_id)
    async with tenant_session(database, tenant_id) as session:
        return await verify(session, known=[*noted, *known])


async def keep_anchoring(
    database: Database,
    anchors: AuditAnchors,
    settings: AuditSettings,
    stop: asyncio.Event,
    metrics: AnchorMetrics,
) -> None:
    """Note the heads of all chains, again and again, until `stop` is set.

    What fails is said and tried again the next time: nothing else may suffer from it.
    """
    while not stop.is_set():
        try:
            found = await anchor(database, anchors)
            for tenant_id, broken in found.broken.items():
                _LOG.error("the audit log of tenant %s was changed: %s", tenant_id, broken)
            metrics.show(found)
        except Exception as error:
            known = isinstance(error, PlatformError) or is_transient(error)
            _LOG.warning("anchoring will be tried again: %s", error, exc_info=not known)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings.anchor_every_minutes * 60)


def _prefix(tenant_id: UUID) -> str:
    # Not below the tenant's own prefix, where retention deletes what no row points to.
    return f"audit-anchors/{tenant_id}/"
