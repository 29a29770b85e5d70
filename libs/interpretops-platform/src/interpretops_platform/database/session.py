"""Sessions: opened once at the edge of a request or task, committed once, bound to whom they serve."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database

_SET_TENANT = select(func.set_config("app.tenant_id", bindparam("tenant"), True))


@asynccontextmanager
async def tenant_session(database: Database, tenant_id: UUID) -> AsyncIterator[AsyncSession]:
    """A transaction in which only the rows of one tenant exist.

    The tenant is set for the transaction alone, so a pooled connection carries nothing over to the
    next request. Leaving the block commits; an exception rolls back.

    Args:
        database: Pools of this process.
        tenant_id: Whom the work is for; it comes from the authenticated caller or a claimed job.
    """
    async with database.app() as session, session.begin():
        await session.execute(_SET_TENANT, {"tenant": str(tenant_id)})
        yield session


@asynccontextmanager
async def system_session(database: Database) -> AsyncIterator[AsyncSession]:
    """A transaction over the jobs of all tenants, for relay, reaper and claim only."""
    async with database.system() as session, session.begin():
        yield session
