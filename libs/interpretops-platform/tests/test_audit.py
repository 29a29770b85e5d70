"""The audit log cannot be changed without it showing."""

import asyncio

import pytest
from interpretops_platform import audit
from interpretops_platform.audit import AuditBrokenError, Head
from interpretops_platform.canonical import UnstorableError
from interpretops_platform.database.engine import create_migration_engine
from interpretops_platform.database.models import AuditEntry
from interpretops_platform.database.session import tenant_session
from sqlalchemy import select, text


@pytest.fixture
def log(database, tenant_id):
    async def _log(action="policy.activate", body=None):
        async with tenant_session(database, tenant_id) as session:
            return await audit.append(
                session, tenant_id, actor="ada", action=action, target="pol_1", body=body or {}
            )

    return _log


@pytest.fixture
def verified(database, tenant_id):
    async def _verified(known=None):
        async with tenant_session(database, tenant_id) as session:
            return await audit.verify(session, known=[] if known is None else [known])

    return _verified


@pytest.fixture
def intruder(settings):
    """Somebody who took over the database."""

    async def _intruder(*statements):
        owner = create_migration_engine(settings.owner_url(), settings.database)
        async with owner.begin() as connection:
            await connection.execute(text("ALTER TABLE audit_log DISABLE TRIGGER append_only"))
            for statement in statements:
                await connection.execute(text(statement))
        await owner.dispose()

    return _intruder


async def test_a_chain_without_entries_is_sound(verified):
    assert await verified() == Head()


async def test_what_is_written_verifies(log, verified):
    bodies = [
        {"unicode": "Žižek 😀 \\u0000", "nested": {"b": [1, True, None], "a": {}}},
        {"small": 1e-9, "large": 1e16, "one": 1.0, "list": (0.1, 2)},
        {"int": 2**70, "negative": -0.0},
    ]
    for body in bodies:
        head = await log(body=body)
    assert head.seq == 3
    assert await verified() == head
    assert await verified(known=head) == head


async def test_entries_written_at_once_make_one_chain(log, verified):
    heads = await asyncio.gather(*(log() for _ in range(25)))
    assert sorted(head.seq for head in heads) == list(range(1, 26))
    assert (await verified()).seq == 25


async def test_an_act_that_fails_leaves_no_entry(database, tenant_id, log, verified):
    head = await log()
    with pytest.raises(ZeroDivisionError):
        async with tenant_session(database, tenant_id) as session:
            await audit.append(session, tenant_id, actor="a", action="b", target="c", body={})
            raise ZeroDivisionError
    assert await verified() == head
    assert (await log()).seq == 2


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        ("UPDATE audit_log SET actor = 'eve' WHERE seq = 2", 2),
        ("UPDATE audit_log SET body = '{\"n\": 9}' WHERE seq = 3", 3),
        ("UPDATE audit_log SET at = at + interval '1 microsecond' WHERE seq = 1", 1),
        ("DELETE FROM audit_log WHERE seq = 2", 2),
        ("DELETE FROM audit_log WHERE seq = 1", 1),
        ("UPDATE audit_log SET previous_hash = repeat('0', 64) WHERE seq = 4", 4),
        ("UPDATE audit_log SET seq = seq + 1 WHERE seq = 4", 4),
    ],
)
async def test_every_change_shows(log, verified, intruder, change, seq):
    for _ in range(4):
        await log()
    await intruder(change)
    with pytest.raises(AuditBrokenError) as caught:
        await verified()
    assert caught.value.seq == seq


async def test_a_cut_or_rewritten_end_shows_against_a_noted_head(log, verified, intruder):
    await log()
    noted = await log()
    await intruder("DELETE FROM audit_log WHERE seq = 2")
    assert (await verified()).seq == 1, "a cut end looks sound"
    with pytest.raises(AuditBrokenError, match="missing"):
        await verified(known=noted)
    await log("something else")
    with pytest.raises(AuditBrokenError, match="noted"):
        await verified(known=noted)


async def test_tenants_have_chains_of_their_own(database, log, verified, other_tenant_id):
    head = await log()
    async with tenant_session(database, other_tenant_id) as session:
        theirs = await audit.append(
            session, other_tenant_id, actor="bob", action="x", target="y", body={}
        )
        assert theirs.seq == 1
        assert (await session.scalars(select(AuditEntry.actor))).all() == ["bob"]
    assert await verified() == head


async def test_what_cannot_be_stored_is_refused(log):
    with pytest.raises(UnstorableError):
        await log(body={"text": "\x00"})
