"""A connection that died in the pool is noticed before a transaction begins on it."""

from uuid import uuid4

import pytest
from interpretops_platform.database import engine
from interpretops_platform.database.session import tenant_session
from sqlalchemy import text

WHOAMI = text("SELECT pg_backend_pid()")


@pytest.mark.parametrize("idle", [engine._IDLE_SECONDS, -1.0], ids=["just used", "idle for long"])
async def test_an_ended_connection_is_replaced(database, monkeypatch, idle):
    monkeypatch.setattr(engine, "_IDLE_SECONDS", idle)
    tenant = uuid4()
    async with tenant_session(database, tenant) as session:
        first = await session.scalar(WHOAMI)
    async with tenant_session(database, tenant) as session:
        assert await session.scalar(WHOAMI) == first, "a living one is used again"
    connection = await database.app().connection()
    raw = await connection.get_raw_connection()
    raw.driver_connection.terminate()
    await connection.close()
    async with tenant_session(database, tenant) as session:
        assert await session.scalar(WHOAMI) != first


async def test_nothing_of_a_tenant_is_left_on_a_connection(database):
    tenant = uuid4()
    setting = text("SELECT current_setting('app.tenant_id', true)")
    async with tenant_session(database, tenant) as session:
        first = await session.scalar(WHOAMI)
        assert await session.scalar(setting) == str(tenant)
    async with database.app() as session, session.begin():
        assert await session.scalar(WHOAMI) == first
        assert not await session.scalar(setting)
