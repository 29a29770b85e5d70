"""API keys in the database: stored by an admin, found by their prefix before anybody is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, update

from interpretops_platform.database.models import ApiKey
from interpretops_platform.database.session import tenant_session
from interpretops_platform.security.keys import KeyRecord

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database


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
