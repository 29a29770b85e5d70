"""Names stand for artifacts of their own tenant, move within a kind, and go with what they name."""

import asyncio

import pytest
from interpretops_platform.database.models import Artifact, ArtifactName, AuditEntry
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.names import (
    NameInvalidError,
    NameTakenError,
    names_of,
    read_name,
    remove_name,
    resolve,
    write_name,
)
from interpretops_platform.security.principal import ForbiddenError, Principal, Role
from sqlalchemy import delete, select

ULID = "01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
CIRCUIT, OLD, NEW = "cx_1", f"sae_{ULID}", "sae_2"


def artifact(tenant_id, name, kind):
    return Artifact(
        tenant_id=tenant_id,
        id=name,
        kind=kind,
        schema_version=1,
        sha256="0" * 64,
        spec_hash="1" * 64,
        manifest={},
        object_uri="file:///nowhere",
        size=1,
    )


@pytest.fixture
def ada(tenant_id):
    return Principal.of(tenant_id, "key:ada", [Role.OPERATOR])


@pytest.fixture(autouse=True)
async def _artifacts(database, tenant_id):
    async with tenant_session(database, tenant_id) as session:
        session.add(artifact(tenant_id, CIRCUIT, "circuit"))
        session.add(artifact(tenant_id, OLD, "dictionary"))
        session.add(artifact(tenant_id, NEW, "dictionary"))


async def log_of(database, tenant_id):
    async with tenant_session(database, tenant_id) as session:
        entries = await session.scalars(select(AuditEntry).order_by(AuditEntry.seq))
        return [(entry.action, entry.target, entry.body) for entry in entries]


async def test_a_name_stands_for_an_artifact_and_is_moved_to_another(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        first = await write_name(session, ada, "sae_v1", OLD)
        assert (first.artifact_id, first.author) == (OLD, "key:ada")
        assert await resolve(session, "sae_v1", "dictionary") == OLD
        assert await resolve(session, OLD, "circuit") == OLD, "an id is given back as it is"
        same = await write_name(session, ada, "sae_v1", OLD)
        assert same.updated_at == first.updated_at
        moved = await write_name(session, ada, "sae_v1", NEW)
        assert (moved.artifact_id, moved.artifact.id) == (NEW, NEW)
        assert await resolve(session, "sae_v1") == NEW
    assert await log_of(database, tenant_id) == [
        ("artifact.name", OLD, {"name": "sae_v1", "before": None}),
        ("artifact.name", NEW, {"name": "sae_v1", "before": OLD}),
    ]


async def test_a_name_is_not_moved_to_another_kind(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        await write_name(session, ada, "best", OLD)
        with pytest.raises(NameTakenError, match=f"best names the dictionary {OLD}"):
            await write_name(session, ada, "best", CIRCUIT)
        await remove_name(session, ada, "best")
        await write_name(session, ada, "best", CIRCUIT)


async def test_a_name_of_another_kind_is_not_found(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        await write_name(session, ada, "best", OLD)
        with pytest.raises(NotFoundError, match=r"no risk card named best\. Fix: it names a dict"):
            await resolve(session, "best", "risk_card")


async def test_a_name_that_is_not_there_is_not_found_and_one_learns_how_to_make_it(
    database, tenant_id, ada
):
    async with tenant_session(database, tenant_id) as session:
        for ask in (
            lambda: resolve(session, "sae_v1", "dictionary"),
            lambda: read_name(session, "sae_v1"),
            lambda: remove_name(session, ada, "sae_v1"),
        ):
            with pytest.raises(NotFoundError, match="PUT /names/sae_v1"):
                await ask()
        with pytest.raises(NotFoundError, match="no artifact sae_none"):
            await write_name(session, ada, "sae_v1", "sae_none")


async def test_names_are_removed_and_their_artifacts_stay(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        for name in ("b", "a"):
            await write_name(session, ada, name, OLD)
        assert await names_of(session, [OLD, NEW]) == {OLD: ["a", "b"]}
        assert (await remove_name(session, ada, "a")).artifact_id == OLD
        assert await names_of(session, [OLD, NEW]) == {OLD: ["b"]}
    assert (await log_of(database, tenant_id))[-1] == ("artifact.unname", OLD, {"name": "a"})


@pytest.mark.parametrize(
    "name", ["", "1a", "Best", "a b", "a/b", "a\n", "ä", "a" * 64, f"sae_{ULID.lower()}"]
)
async def test_what_is_no_name_or_looks_like_an_id_is_refused(database, tenant_id, ada, name):
    async with tenant_session(database, tenant_id) as session:
        with pytest.raises(NameInvalidError):
            await write_name(session, ada, name, OLD)


async def test_two_who_take_one_name_at_once_take_turns(database, tenant_id, ada):
    async def take(artifact_id):
        async with tenant_session(database, tenant_id) as session:
            await write_name(session, ada, "best", artifact_id)

    ended = await asyncio.gather(take(OLD), take(CIRCUIT), return_exceptions=True)
    assert sorted(type(end) for end in ended if end is not None) == [NameTakenError]


async def test_viewers_name_nothing(database, tenant_id):
    viewer = Principal.of(tenant_id, "key:eyes", [Role.VIEWER])
    async with tenant_session(database, tenant_id) as session:
        with pytest.raises(ForbiddenError):
            await write_name(session, viewer, "sae_v1", OLD)
        with pytest.raises(ForbiddenError):
            await remove_name(session, viewer, "sae_v1")


async def test_another_tenant_sees_no_name_and_takes_none_away(
    database, tenant_id, other_tenant_id, ada
):
    async with tenant_session(database, tenant_id) as session:
        await write_name(session, ada, "sae_v1", OLD)
    eve = Principal.of(other_tenant_id, "key:eve", [Role.OPERATOR])
    async with tenant_session(database, other_tenant_id) as session:
        assert (await session.scalars(select(ArtifactName))).all() == []
        assert await names_of(session, [OLD]) == {}
        with pytest.raises(NotFoundError):
            await resolve(session, "sae_v1")
        with pytest.raises(NotFoundError):
            await remove_name(session, eve, "sae_v1")
        with pytest.raises(NotFoundError):
            await write_name(session, eve, "sae_v1", OLD)
        # The same name is theirs to take.
        session.add(artifact(other_tenant_id, "cx_9", "circuit"))
        await session.flush()
        await write_name(session, eve, "sae_v1", "cx_9")
    async with tenant_session(database, tenant_id) as session:
        assert await resolve(session, "sae_v1") == OLD


async def test_a_name_goes_with_its_artifact(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        await write_name(session, ada, "sae_v1", OLD)
        await session.execute(delete(Artifact).where(Artifact.id == OLD))
    async with tenant_session(database, tenant_id) as session:
        assert (await session.scalars(select(ArtifactName))).all() == []
