"""Retention: what has had its time is deleted, rows first, then the objects that no row points to.

Nothing that something kept longer needs is deleted: an artifact stays while another one descends from
it, while a job names it as its result or may still read it, and while a policy that is on its way to
production or in it uses it. A retired policy keeps its artifact for as long again, so that one can go
back to it.

An object may lie there before the row that points to it, because uploads come first. So an object is
deleted only if it is older than `GRACE`, and older than every job of its tenant that is not over; and
putting content that lies there already makes it young again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, func, literal_column, select, text, update

from interpretops_platform import audit
from interpretops_platform.database.engine import is_transient
from interpretops_platform.database.leader import alone
from interpretops_platform.database.models import (
    JSON,
    ApiKey,
    Artifact,
    ArtifactParent,
    Job,
    Policy,
    Tenant,
)
from interpretops_platform.database.session import system_session, tenant_session
from interpretops_platform.errors import PlatformError
from interpretops_platform.objects.store import GRACE
from interpretops_platform.traffic import delete_old_windows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database
    from interpretops_platform.objects.store import ObjectStore, StoredObject
    from interpretops_platform.settings import ComplianceSettings
    from interpretops_platform.tenants import TenantStores

ACTOR = "retention"
"""Who acts in the audit log."""
LOCK = 0x1A7E4F0A
"""Held by whoever deletes, and by whoever must not have anything deleted meanwhile."""
_BATCH = 500
_OBJECTS = 1000
_PLAIN = {"synchronize_session": False}
_LOG = logging.getLogger(__name__)


@dataclass
class Deleted:
    """What was deleted.

    Attributes:
        jobs: How many jobs, with their events.
        artifacts: Ids of artifacts.
        policies: Versions of policies that lost their artifact, or were deleted themselves.
        keys: How many API keys.
        objects: How many objects.
        bytes: Their bytes, as they were kept.
        windows: Hours of what policies saw of their traffic.
    """

    jobs: int = 0
    artifacts: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    keys: int = 0
    objects: int = 0
    bytes: int = 0
    windows: int = 0

    def __bool__(self) -> bool:
        return any(
            (self.jobs, self.artifacts, self.policies, self.keys, self.objects, self.windows)
        )

    def add(self, other: Deleted) -> None:
        """Count what else was deleted."""
        self.jobs += other.jobs
        self.artifacts += other.artifacts
        self.policies += other.policies
        self.keys += other.keys
        self.objects += other.objects
        self.bytes += other.bytes
        self.windows += other.windows

    def as_body(self) -> JSON:
        """As it stands in the audit log, without what is empty."""
        return {name: value for name, value in vars(self).items() if value}

    def __str__(self) -> str:
        return (
            f"{self.jobs} jobs, {len(self.artifacts)} artifacts, {self.objects} objects"
            f" ({self.bytes / 1e6:.1f} MB)"
        )


async def retain(
    database: Database, stores: TenantStores, retention: timedelta, *, grace: timedelta = GRACE
) -> Deleted | None:
    """Delete what has had its time, of every tenant.

    Args:
        database: Pools with both logins.
        stores: Opens the objects of tenants.
        retention: How long finished jobs and retired policies are kept; artifacts carry their own
            end.
        grace: How old an object without a row must be.

    Returns:
        What was deleted; none where another process is at it.

    Raises:
        PlatformError: When the objects of some tenant cannot be reached. The others were done, unless
            the store does not answer at all.
    """
    deleted = Deleted()
    problem: PlatformError | None = None
    async with alone(database, LOCK) as first:
        if not first:
            return None
        async with system_session(database) as session:
            tenants = (await session.scalars(select(Tenant.id))).all()
        for tenant_id in tenants:
            deleted.add(await _delete_expired(database, tenant_id, retention))
            try:
                deleted.add(await _collect(database, stores, tenant_id, grace))
            except PlatformError as error:
                if error.transient:
                    raise
                _LOG.error("the objects of tenant %s: %s", tenant_id, error)
                problem = error
    if problem is not None:
        raise problem
    return deleted


async def keep_retaining(
    database: Database, stores: TenantStores, settings: ComplianceSettings, stop: asyncio.Event
) -> None:
    """Delete what has had its time, again and again, until `stop` is set.

    What fails is said and tried again the next time: nothing else may suffer from it.
    """
    while not stop.is_set():
        try:
            deleted = await retain(database, stores, settings.retention)
            if deleted:
                _LOG.info("retention deleted %s", deleted)
        except Exception as error:
            known = isinstance(error, PlatformError) or is_transient(error)
            _LOG.warning("retention will be tried again: %s", error, exc_info=not known)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings.retain_every_hours * 3600)


async def delete_rows(session: AsyncSession) -> Deleted:
    """Delete all that the session's tenant has but its audit log; the database lets it be shredded only.

    Args:
        session: A `tenant_session`, in which the tenant was marked as shredded.
    """
    deleted = Deleted()
    gone = await session.execute(delete(Policy).returning(Policy.name, Policy.version))
    deleted.policies = [f"{name}@{version}" for name, version in gone]
    deleted.jobs = len((await session.scalars(delete(Job).returning(Job.id))).all())
    while leaves := await _delete_leaves(session):
        deleted.artifacts += leaves
    deleted.keys = len((await session.scalars(delete(ApiKey).returning(ApiKey.id))).all())
    return deleted


async def _delete_expired(database: Database, tenant_id: UUID, retention: timedelta) -> Deleted:
    """Delete a tenant's rows in transactions of bounded size, each with its entry in the audit log."""
    deleted = Deleted()
    while True:
        async with tenant_session(database, tenant_id) as session:
            if await _is_shredded(session):
                step = await delete_rows(session)  # what came in after the shredding
            else:
                step = await _expire(session, retention)
            if not step:
                return deleted
            await audit.append(
                session,
                tenant_id,
                actor=ACTOR,
                action="retention.delete",
                target="rows",
                body=step.as_body(),
            )
        deleted.add(step)


async def _expire(session: AsyncSession, retention: timedelta) -> Deleted:
    ended_before = func.clock_timestamp() - retention
    step = Deleted(windows=await delete_old_windows(session, retention))
    old_jobs = select(Job.id).where(Job.finished_at < ended_before).limit(_BATCH)
    gone = await session.scalars(
        delete(Job).where(Job.id.in_(old_jobs)).returning(Job.id), execution_options=_PLAIN
    )
    step.jobs = len(gone.all())
    expired = Artifact.expires_at < func.clock_timestamp()
    given_up = Policy.state.in_(("draft", "retired")) & (
        func.coalesce(Policy.retired_at, Policy.created_at) < ended_before
    )
    released = await session.execute(
        update(Policy)
        .where(given_up, exists().where(Artifact.id == Policy.artifact_id, expired))
        .values(artifact_id=None)
        .returning(Policy.name, Policy.version),
        execution_options=_PLAIN,
    )
    step.policies = [f"{name}@{version}" for name, version in released]
    step.artifacts = await _delete_leaves(
        session,
        expired,
        ~exists().where(Policy.artifact_id == Artifact.id),
        ~exists().where(Job.result_artifact_id == Artifact.id),
        Artifact.id.not_in(await _named_by_jobs(session)),
    )
    return step


async def _delete_leaves(session: AsyncSession, *conditions: ColumnElement[bool]) -> list[str]:
    """Delete artifacts that nothing descends from; what they came from may be next."""
    child = exists().where(ArtifactParent.parent_id == Artifact.id)
    leaves = select(Artifact.id).where(~child, *conditions).limit(_BATCH)
    statement = delete(Artifact).where(Artifact.id.in_(leaves)).returning(Artifact.id)
    return list(await session.scalars(statement, execution_options=_PLAIN))


async def _named_by_jobs(session: AsyncSession) -> Sequence[str]:
    """Ids of artifacts that jobs which are not over were given, wherever in their specs."""
    names = text(
        "SELECT DISTINCT named[1] FROM jobs,"
        " regexp_matches(spec::text || inputs::text, '\"([a-z]{2,4}_[0-9A-Z]{26})\"', 'g') AS named"
        " WHERE finished_at IS NULL"
    )
    return (await session.scalars(names)).all()


async def _collect(
    database: Database, stores: TenantStores, tenant_id: UUID, grace: timedelta
) -> Deleted:
    """Delete the objects of a tenant that no row points to."""
    async with tenant_session(database, tenant_id) as session:
        shredded = await _is_shredded(session)
        store = stores.unsealed(tenant_id) if shredded else await stores.open(session)
        started = await session.scalar(
            select(func.min(Job.created_at)).where(Job.finished_at.is_(None))
        )
    written_before = datetime.now(UTC) - grace
    if shredded:
        written_before = datetime.max.replace(tzinfo=UTC)  # nothing of it opens any more
    elif started is not None:
        written_before = min(written_before, started)
    old = await asyncio.to_thread(_older, store, written_before)
    deleted = Deleted()
    for start in range(0, len(old), _OBJECTS):
        # Looked up for each batch, so that what was registered since the listing counts.
        wanted = await _pointed_to(database, tenant_id, store)
        loose = [stored for stored in old[start : start + _OBJECTS] if stored.uri not in wanted]
        gone = await asyncio.to_thread(_forget, store, loose, written_before)
        deleted.objects += len(gone)
        deleted.bytes += sum(stored.size for stored in gone)
    if deleted:
        async with tenant_session(database, tenant_id) as session:
            await audit.append(
                session,
                tenant_id,
                actor=ACTOR,
                action="retention.delete",
                target="objects",
                body=deleted.as_body(),
            )
    return deleted


def _older(store: ObjectStore, written_before: datetime) -> list[StoredObject]:
    return [stored for stored in store.entries() if stored.written_at < written_before]


def _forget(
    store: ObjectStore, loose: list[StoredObject], written_before: datetime
) -> list[StoredObject]:
    return [stored for stored in loose if store.forget(stored, written_before=written_before)]


async def _pointed_to(database: Database, tenant_id: UUID, store: ObjectStore) -> set[str]:
    """Addresses of the objects that rows of the tenant point to."""
    digests = select(
        func.jsonb_path_query(Artifact.manifest, literal_column("'$.files[*].sha256'")).op("#>>")(
            literal_column("'{}'")
        )
    ).distinct()
    async with tenant_session(database, tenant_id) as session:
        uris = {store.ref(digest, 0, "").uri for digest in await session.scalars(digests)}
        uris.update(await session.scalars(select(Artifact.object_uri)))
        uris.update(
            await session.scalars(select(Job.checkpoint_uri).where(Job.checkpoint_uri.is_not(None)))
        )
    return uris


async def _is_shredded(session: AsyncSession) -> bool:
    return await session.scalar(select(Tenant.shredded_at)) is not None
