"""API keys in the database: found by their prefix before anybody is known, changed only on the record.

Every change is written to the audit log in the same transaction.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, update

from interpretops_platform import audit
from interpretops_platform.database.models import JSON, ApiKey
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.security import keys
from interpretops_platform.security.keys import KeyRecord
from interpretops_platform.security.principal import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database
    from interpretops_platform.security.keys import IssuedKey
    from interpretops_platform.security.peppers import Peppers
    from interpretops_platform.security.principal import Principal, Role


async def add_key(session: AsyncSession, record: KeyRecord) -> None:
    """Store a key that was issued.

    Args:
        session: A `tenant_session` of the key's tenant.
        record: From `keys.issue`.
    """
    values = {
        "tenant_id": record.tenant_id,
        "prefix": record.prefix,
        "hash": record.hash,
        "name": record.name,
        "roles": list(record.roles),
        "scopes": list(record.scopes),
        "expires_at": record.expires_at,
    }
    await session.execute(insert(ApiKey).inline().values(values))


async def find_key(database: Database, prefix: str) -> KeyRecord | None:
    """The key with a presented prefix, of whatever tenant, or none.

    Row-level security shows that one row and no other, because no tenant is set yet.
    """
    async with database.app() as session, session.begin():
        await session.execute(select(func.set_config("app.key_prefix", prefix, True)))
        row = await session.scalar(select(ApiKey).where(ApiKey.prefix == prefix))
    if row is None:
        return None
    return _record(row)


async def mark_used(database: Database, record: KeyRecord) -> None:
    """Note that a key was used just now."""
    statement = (
        update(ApiKey)
        .where(ApiKey.prefix == record.prefix)
        .values(last_used_at=func.clock_timestamp())
    )
    async with tenant_session(database, record.tenant_id) as session:
        await session.execute(statement)


async def set_end(
    session: AsyncSession, prefix: str, *, expires_at: datetime | None, revoked: bool = False
) -> None:
    """Give a key another expiry, or withdraw it now.

    Args:
        session: A `tenant_session` of the key's tenant.
        prefix: Which key.
        expires_at: From then on it is refused; none stands for never.
        revoked: Whether it is refused from now on.
    """
    values: dict[str, object] = {"expires_at": expires_at}
    if revoked:
        values["revoked_at"] = func.clock_timestamp()
    await session.execute(update(ApiKey).where(ApiKey.prefix == prefix).values(values))


async def get_key(session: AsyncSession, prefix: str) -> ApiKey:
    """The row of a key.

    Args:
        session: A `tenant_session`.
        prefix: Which key.

    Raises:
        NotFoundError: When this tenant has no such key.
    """
    statement = select(ApiKey).where(ApiKey.prefix == prefix)
    row = await session.scalar(statement, execution_options={"populate_existing": True})
    if row is None:
        raise NotFoundError(f"there is no key {prefix!r}", fix="list the keys you have")
    return row


async def issue_key(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    name: str,
    roles: Iterable[Role],
    peppers: Peppers,
    scopes: Iterable[Scope] | None = None,
    lifetime: timedelta | None = None,
    issuer: Principal | None = None,
) -> IssuedKey:
    """Make a key and store it.

    Args:
        session: A `tenant_session`.
        tenant_id: The tenant of that session.
        name: Who or what will use it.
        roles: At least one role.
        peppers: Secrets of the installation.
        scopes: Narrows the roles; none stands for everything they allow today.
        lifetime: After this it is refused; none stands for ever.
        issuer: Who asks for it; none is the installation itself.

    Raises:
        ForbiddenError: When the issuer may not give this away.
        KeyRequestError: When the name, the roles, the scopes or the lifetime make no sense.
    """
    issued = keys.issue(
        tenant_id=tenant_id,
        name=name,
        roles=roles,
        scopes=scopes,
        lifetime=lifetime,
        peppers=peppers,
        now=datetime.now(UTC),
        issuer=issuer,
    )
    record = issued.record
    await add_key(session, record)
    body = {"name": name, "roles": list(record.roles), "scopes": list(record.scopes)}
    await _note(session, tenant_id, issuer, "issue", record.prefix, body)
    return issued


async def rotate_key(
    session: AsyncSession,
    prefix: str,
    *,
    peppers: Peppers,
    grace: timedelta,
    lifetime: timedelta | None = None,
    issuer: Principal | None = None,
) -> IssuedKey:
    """Replace a key by one of the same name and rights; for a while both work.

    Args:
        session: A `tenant_session` of the key's tenant.
        prefix: Which key.
        peppers: Secrets of the installation.
        grace: How long the old key goes on; an earlier expiry of it stands.
        lifetime: How long the new key lives; none stands for ever.
        issuer: Who asks for it; none is the installation itself.

    Returns:
        The successor.

    Raises:
        ForbiddenError: When the issuer may not have a key with these rights.
        KeyRequestError: When the old key no longer works, or a duration makes no sense.
        NotFoundError: When this tenant has no such key.
    """
    record = _record(await get_key(session, prefix))
    rotated = keys.rotate(
        record,
        peppers=peppers,
        now=datetime.now(UTC),
        grace=grace,
        lifetime=lifetime,
        issuer=issuer,
    )
    successor = rotated.successor
    await add_key(session, successor.record)
    await set_end(session, prefix, expires_at=rotated.retiring.expires_at)
    body = {"successor": successor.record.prefix, "grace_seconds": int(grace.total_seconds())}
    await _note(session, record.tenant_id, issuer, "rotate", prefix, body)
    return successor


async def revoke_key(
    session: AsyncSession, prefix: str, *, revoker: Principal | None = None
) -> ApiKey:
    """Withdraw a key; doing it twice is doing it once.

    Args:
        session: A `tenant_session` of the key's tenant.
        prefix: Which key.
        revoker: Who asks for it; none is the installation itself.

    Raises:
        ForbiddenError: When the caller may not change keys.
        NotFoundError: When this tenant has no such key.
    """
    if revoker is not None:
        revoker.require(Scope.KEYS_WRITE)
    row = await get_key(session, prefix)
    if row.revoked_at is not None:
        return row
    await set_end(session, prefix, expires_at=row.expires_at, revoked=True)
    await _note(session, row.tenant_id, revoker, "revoke", prefix, {"name": row.name})
    return await get_key(session, prefix)


def _record(row: ApiKey) -> KeyRecord:
    return KeyRecord(
        tenant_id=row.tenant_id,
        prefix=row.prefix,
        hash=row.hash,
        name=row.name,
        roles=tuple(row.roles),
        scopes=tuple(row.scopes),
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


async def _note(
    session: AsyncSession,
    tenant_id: UUID,
    who: Principal | None,
    action: str,
    prefix: str,
    body: JSON,
) -> None:
    await audit.append(
        session,
        tenant_id,
        actor=audit.INSTALLATION if who is None else who.subject,
        action=f"key.{action}",
        target=f"key:{prefix}",
        body=body,
    )
