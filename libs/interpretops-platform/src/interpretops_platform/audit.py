"""The audit log: a hash chain per tenant, which the database lets nobody change.

Each entry carries the hash of the one before it and of all that it says itself. A trigger refuses
UPDATE, DELETE and TRUNCATE; whoever gets around it by taking over the database breaks the chain,
unless they rewrite it to its end. Against that, its heads are noted elsewhere (`anchors`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, insert, select

from interpretops_platform.canonical import sha256_of
from interpretops_platform.database.models import JSON, AuditEntry
from interpretops_platform.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

INSTALLATION = "installation"
"""Who acts when nobody called: whoever runs commands on the installation itself."""
_BATCH = 1000


class Head(NamedTuple):
    """The newest entry of a chain; `seq` 0 is a chain without entries."""

    seq: int = 0
    hash: str = "0" * 64


class AuditBrokenError(PlatformError):
    """The chain is not the one that was written."""

    def __init__(self, seq: int, what: str) -> None:
        self.seq = seq
        super().__init__(
            f"audit entry {seq} {what}", fix="compare with a backup and find out who changed it"
        )


async def append(
    session: AsyncSession, tenant_id: UUID, *, actor: str, action: str, target: str, body: JSON
) -> Head:
    """Write an entry in the caller's transaction, so that it exists if and only if the act does.

    Appends of one tenant wait for one another until that transaction ends.

    Args:
        session: A `tenant_session`.
        tenant_id: The tenant of that session.
        actor: Who did it.
        action: What they did, such as `policy.activate`.
        target: What they did it to.
        body: Details; no secrets. Fractions are kept as text, for databases spell them differently.

    Raises:
        UnstorableError: When the entry holds text that PostgreSQL cannot store.
    """
    await session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"audit {tenant_id}", 0)))
    )
    last = (
        await session.execute(
            select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)
        )
    ).one_or_none()
    previous = Head() if last is None else Head(last.seq, last.hash)
    at: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    values = {
        "tenant_id": tenant_id,
        "seq": previous.seq + 1,
        "at": at,
        "actor": actor,
        "action": action,
        "target": target,
        "body": _without_fractions(body),
        "previous_hash": previous.hash,
    }
    digest = _hash(values)
    await session.execute(insert(AuditEntry).inline().values(**values, hash=digest))
    return Head(previous.seq + 1, digest)


async def verify(session: AsyncSession, *, known: Collection[Head] = ()) -> Head:
    """Walk the chain of the session's tenant from its beginning.

    Args:
        session: A `tenant_session`.
        known: Heads noted earlier, which must still be part of the chain. Without any, a chain whose
            end was cut off looks sound.

    Returns:
        The newest entry, to be noted.

    Raises:
        AuditBrokenError: At the first entry that was changed, left out, inserted or cut off.
    """
    noted: dict[int, set[str]] = {}
    for each in known:
        noted.setdefault(each.seq, set()).add(each.hash)
    head = Head()
    while True:
        entries = (
            await session.scalars(
                select(AuditEntry)
                .where(AuditEntry.seq > head.seq)
                .order_by(AuditEntry.seq)
                .limit(_BATCH)
            )
        ).all()
        if not entries:
            break
        for entry in entries:
            head = _next(head, entry)
            if not noted.pop(head.seq, {head.hash}) <= {head.hash}:
                raise AuditBrokenError(head.seq, "is not the one that was noted")
        session.expunge_all()
    if max(noted, default=0) > head.seq:
        raise AuditBrokenError(head.seq + 1, "is missing")
    return head


def _next(head: Head, entry: AuditEntry) -> Head:
    if entry.seq != head.seq + 1:
        raise AuditBrokenError(head.seq + 1, "is missing")
    if entry.previous_hash != head.hash:
        raise AuditBrokenError(entry.seq, "does not follow the one before it")
    values = {name: getattr(entry, name) for name in _HASHED}
    if _hash(values) != entry.hash:
        raise AuditBrokenError(entry.seq, "was changed")
    return Head(entry.seq, entry.hash)


_HASHED = ("tenant_id", "seq", "at", "actor", "action", "target", "body", "previous_hash")


def _hash(values: dict[str, Any]) -> str:
    at = values["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return sha256_of({**values, "tenant_id": str(values["tenant_id"]), "at": at})


def _without_fractions(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {str(key): _without_fractions(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_fractions(item) for item in value]
    return value
