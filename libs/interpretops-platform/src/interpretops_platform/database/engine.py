"""The two logins through which services reach PostgreSQL, each with its pool."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
    from sqlalchemy.engine import URL
    from sqlalchemy.pool import ConnectionPoolEntry

    from interpretops_platform.settings import DatabaseSettings, Settings

_CONNECT_SECONDS = 10
_IDLE_SECONDS = 2.0
_TRANSIENT_STATES = {
    "25P03",  # idle_in_transaction_session_timeout: this process was frozen
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "53300",  # too_many_connections
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
}


class Database:
    """Pools of one process, opened at first use and closed by `close`.

    A service that only serves tenants never opens the system login, and needs none configured.

    Args:
        settings: Where the database is and how long things may take there.
        name: Shown as `application_name`, so that an operator sees who holds a connection.
    """

    def __init__(self, settings: Settings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._engines: list[AsyncEngine] = []

    @cached_property
    def app(self) -> async_sessionmaker[AsyncSession]:
        """Sessions of the app role; use `tenant_session`, which sets the tenant."""
        return self._sessions(self._settings.app_url())

    @cached_property
    def system(self) -> async_sessionmaker[AsyncSession]:
        """Sessions of the system role; use `system_session`."""
        return self._sessions(self._settings.system_url())

    async def close(self) -> None:
        """Close every connection."""
        for engine in self._engines:
            await engine.dispose()

    def _sessions(self, url: URL) -> async_sessionmaker[AsyncSession]:
        engine = create_engine(url, self._settings.database, name=self._name)
        self._engines.append(engine)
        return async_sessionmaker(engine, expire_on_commit=False)


def create_engine(url: URL, settings: DatabaseSettings, *, name: str) -> AsyncEngine:
    """An engine whose connections are bounded in number and in time.

    Args:
        url: Address with the driver asyncpg.
        settings: Sizes and time limits.
        name: The `application_name` of its connections.
    """
    engine = create_async_engine(
        url,
        pool_size=settings.pool_size,
        max_overflow=settings.pool_size,
        hide_parameters=True,  # specs and keys do not belong into logs
        connect_args=_connect_arguments(settings, name),
    )
    event.listen(engine.sync_engine, "checkin", _note_use)
    event.listen(engine.sync_engine, "checkout", _require_alive)
    return engine


def _note_use(_: object, record: ConnectionPoolEntry) -> None:
    record.info["used"] = time.monotonic()


def _require_alive(
    connection: AsyncAdapt_asyncpg_connection, record: ConnectionPoolEntry, _: object
) -> None:
    """Notice a restarted server before a transaction begins; the pool then opens a connection anew.

    The driver sees the end of a connection by itself, unless the network swallowed it: only one that
    has been idle is asked. SQLAlchemy's own way asks each time, in three round trips.

    Raises:
        DisconnectionError: When nobody is at the other end.
    """
    idle = time.monotonic() - record.info.get("used", time.monotonic())
    if connection.driver_connection.is_closed():
        raise DisconnectionError
    if idle > _IDLE_SECONDS:
        try:
            connection.ping()  # type: ignore[no-untyped-call]
        except Exception as error:
            raise DisconnectionError from error


def create_migration_engine(url: URL, settings: DatabaseSettings) -> AsyncEngine:
    """An engine for the owner: one connection, no pool, no limit on how long a statement takes."""
    arguments = _connect_arguments(settings, "interpretops-migrate")
    arguments["server_settings"] = {"application_name": "interpretops-migrate"}
    arguments["command_timeout"] = None
    return create_async_engine(
        url, poolclass=NullPool, hide_parameters=True, connect_args=arguments
    )


def is_transient(error: BaseException) -> bool:
    """Whether the database was unreachable or restarting, so that trying again makes sense.

    The transaction may have been committed all the same: only its answer is known to be lost.
    """
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _is_transient_state(error.orig)
    # What happens before a connection exists reaches us as the driver raised it.
    return isinstance(error, OSError | TimeoutError) or _is_transient_state(error)


def _is_transient_state(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None) or ""
    return state[:2] == "08" or state in _TRANSIENT_STATES


def _connect_arguments(settings: DatabaseSettings, name: str) -> dict[str, object]:
    return {
        "timeout": _CONNECT_SECONDS,
        # Also ends the wait on a server that no longer answers at all.
        "command_timeout": settings.statement_timeout_seconds + _CONNECT_SECONDS,
        "server_settings": {
            "application_name": name,
            "statement_timeout": _milliseconds(settings.statement_timeout_seconds),
            # A process frozen inside a transaction must not hold its row locks for ever.
            "idle_in_transaction_session_timeout": _milliseconds(
                settings.idle_in_transaction_seconds
            ),
        },
    }


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
