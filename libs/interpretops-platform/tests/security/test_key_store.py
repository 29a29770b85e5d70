"""Keys in a real table: found by prefix without a tenant, ended within one."""

from datetime import UTC, datetime, timedelta

import pytest
from interpretops_platform.database.models import ApiKey
from interpretops_platform.database.session import tenant_session
from interpretops_platform.security import keys
from interpretops_platform.security.key_store import add_key, find_key, mark_used, set_end
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import Role, UnauthenticatedError
from sqlalchemy import select

PEPPERS = Peppers([bytes(32)])


async def stored(database, tenant_id, name):
    issued = keys.issue(
        tenant_id=tenant_id,
        name=name,
        roles=[Role.OPERATOR],
        peppers=PEPPERS,
        now=datetime.now(UTC),
    )
    async with tenant_session(database, tenant_id) as session:
        await add_key(session, issued.record)
    return issued


async def last_use(database, tenant_id, prefix):
    async with tenant_session(database, tenant_id) as session:
        return await session.scalar(select(ApiKey.last_used_at).where(ApiKey.prefix == prefix))


async def test_a_key_is_found_by_its_prefix_and_names_its_own_tenant(
    database, tenant_id, other_tenant_id
):
    ours = await stored(database, tenant_id, "ours")
    theirs = await stored(database, other_tenant_id, "theirs")
    for issued, tenant in ((ours, tenant_id), (theirs, other_tenant_id)):
        record = await find_key(database, issued.token.prefix)
        assert record == issued.record
        principal = keys.verify(issued.token, record, peppers=PEPPERS, now=datetime.now(UTC))
        assert principal.tenant_id == tenant
    assert await find_key(database, "aaaaaaaaaaaa") is None


async def test_a_key_that_was_withdrawn_or_has_ended_is_refused(database, tenant_id):
    issued = await stored(database, tenant_id, "short")
    now = datetime.now(UTC)
    async with tenant_session(database, tenant_id) as session:
        await set_end(session, issued.token.prefix, expires_at=now - timedelta(seconds=1))
    record = await find_key(database, issued.token.prefix)
    with pytest.raises(UnauthenticatedError, match="expired"):
        keys.verify(issued.token, record, peppers=PEPPERS, now=now)
    async with tenant_session(database, tenant_id) as session:
        await set_end(session, issued.token.prefix, expires_at=None, revoked=True)
    record = await find_key(database, issued.token.prefix)
    with pytest.raises(UnauthenticatedError, match="revoked"):
        keys.verify(issued.token, record, peppers=PEPPERS, now=now)


async def test_another_tenant_cannot_end_a_key(database, tenant_id, other_tenant_id):
    issued = await stored(database, tenant_id, "ours")
    async with tenant_session(database, other_tenant_id) as session:
        await set_end(session, issued.token.prefix, expires_at=None, revoked=True)
    record = await find_key(database, issued.token.prefix)
    assert record.revoked_at is None


async def test_use_is_noted(database, tenant_id):
    issued = await stored(database, tenant_id, "busy")
    assert await last_use(database, tenant_id, issued.token.prefix) is None
    await mark_used(database, issued.record)
    assert await last_use(database, tenant_id, issued.token.prefix) is not None
