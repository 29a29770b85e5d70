"""The schema goes up from an empty database and back to an empty one."""

import asyncio
import secrets

import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from interpretops_platform.database import migrate
from interpretops_platform.database.engine import create_migration_engine
from interpretops_platform.database.models import Base
from sqlalchemy import text

LEFT_OVER = text(
    """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
    """
)


@pytest.fixture
def empty_settings(postgres_server):
    name = f"empty_{secrets.token_hex(6)}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres_server.settings(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def owner(empty_settings):
    engine = create_migration_engine(empty_settings.owner_url(), empty_settings.database)
    yield engine
    await engine.dispose()


async def _names(engine):
    async with engine.connect() as connection:
        return set(await connection.scalars(LEFT_OVER))


async def test_up_and_down_and_up_again(owner):
    assert await _names(owner) == set()
    await migrate.upgrade(owner)
    assert set(Base.metadata.tables) <= await _names(owner)
    await migrate.downgrade(owner, "base")
    assert await _names(owner) == set()
    await migrate.upgrade(owner)
    assert set(Base.metadata.tables) <= await _names(owner)


async def test_two_migrations_at_once_make_one_schema(owner, empty_settings):
    second = create_migration_engine(empty_settings.owner_url(), empty_settings.database)
    await asyncio.gather(migrate.upgrade(owner), migrate.upgrade(second))
    await second.dispose()
    assert set(Base.metadata.tables) <= await _names(owner)


async def test_models_and_migrations_say_the_same(owner):
    await migrate.upgrade(owner)

    def differences(connection):
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return compare_metadata(context, Base.metadata)

    async with owner.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_whoever_waits_for_the_schema_goes_on_with_it_or_a_newer_one(owner):
    waiting = asyncio.create_task(migrate.wait_until_current(owner))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await migrate.upgrade(owner)
    await asyncio.wait_for(waiting, 30)
    for revision, current in (("0001", False), ("of a later version", True)):
        async with owner.begin() as connection:
            statement = text("UPDATE alembic_version SET version_num = :revision")
            await connection.execute(statement, {"revision": revision})
        assert await migrate.is_current(owner) is current
