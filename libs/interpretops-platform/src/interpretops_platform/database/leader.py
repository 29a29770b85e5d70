"""Being the only one: of all processes, one is inside such a block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from interpretops_platform.database.engine import Database


@asynccontextmanager
async def alone(database: Database, lock: int) -> AsyncIterator[bool]:
    """Whether no other process is inside this block; it ends with the connection that says so.

    Args:
        database: Pools of this process.
        lock: Which block; a number of its own.
    """
    async with database.system() as session:
        # Outside a transaction, which would not be let idle for so long.
        connection: Any = await session.connection(
            execution_options={"isolation_level": "AUTOCOMMIT"}
        )
        first = bool(await connection.scalar(select(func.pg_try_advisory_lock(lock))))
        try:
            yield first
        finally:
            if first:
                await connection.execute(select(func.pg_advisory_unlock(lock)))
