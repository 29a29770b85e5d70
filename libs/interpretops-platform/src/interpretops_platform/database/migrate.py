"""Bring a database to a revision of the schema, from empty and back to empty."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from asyncpg import PostgresError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_LOG = logging.getLogger(__name__)
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOOK_SECONDS = 2.0
_LOCK = 0x1A7E4F09  # any number, the same in every version: two migrations never run at once


async def upgrade(engine: AsyncEngine, revision: str = "head") -> None:
    """Migrate up, in one transaction; a second process waits and then finds nothing to do.

    Args:
        engine: Connects as the owner.
        revision: Where to; `head` is this version of the library.
    """
    async with engine.begin() as connection:
        await _lock(connection)
        await connection.run_sync(_upgrade, revision)


async def downgrade(engine: AsyncEngine, revision: str) -> None:
    """Migrate down, in one transaction.

    Args:
        engine: Connects as the owner.
        revision: Where to; `base` leaves an empty database.
    """
    async with engine.begin() as connection:
        await _lock(connection)
        await connection.run_sync(_downgrade, revision)
        if revision == "base":
            await connection.execute(text("DROP TABLE alembic_version"))


async def is_current(engine: AsyncEngine) -> bool:
    """Whether the schema is that of this version, or of a newer one, which this version works with.

    Args:
        engine: Connects as any role that may read the table of revisions.
    """
    scripts = ScriptDirectory(str(_MIGRATIONS))
    older = {script.revision for script in scripts.walk_revisions()} - {*scripts.get_heads()}
    async with engine.connect() as connection:
        found = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found is not None and found not in older


async def wait_until_current(engine: AsyncEngine) -> None:
    """Wait for whoever migrates: for the server, the role, its password, the tables and the revision.

    Args:
        engine: Connects as any role that may read the table of revisions.
    """
    said = ""
    while True:
        try:
            if await is_current(engine):
                return
            reason = "its schema is older than this version"
        except (DBAPIError, OSError, TimeoutError, PostgresError) as error:
            reason = str(error).partition("\n")[0]
        if reason != said:
            _LOG.info("waiting for the database: %s", reason)
            said = reason
        await asyncio.sleep(_LOOK_SECONDS)


async def set_passwords(engine: AsyncEngine, passwords: dict[str, str]) -> None:
    """Let the roles that the migration made log in.

    Args:
        engine: Connects as the owner.
        passwords: Password by role.
    """
    async with engine.begin() as connection:
        for role, password in passwords.items():
            # A utility statement takes no parameters, so the server quotes them into it.
            statement = await connection.scalar(
                text(
                    "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L',"
                    " cast(:role AS text), cast(:password AS text))"
                ),
                {"role": role, "password": password},
            )
            await connection.exec_driver_sql(str(statement))


async def _lock(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _upgrade(connection: Connection, revision: str) -> None:
    command.upgrade(_config(connection), revision)


def _downgrade(connection: Connection, revision: str) -> None:
    command.downgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config
