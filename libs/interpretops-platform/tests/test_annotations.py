"""What people write about circuits and features is theirs, in order, and in the audit log."""

import pytest
from interpretops_platform.annotations import (
    AnnotationChangedError,
    FeatureName,
    labels_of,
    read_annotation,
    read_label,
    write_annotation,
    write_label,
)
from interpretops_platform.database.models import (
    Artifact,
    AuditEntry,
    CircuitAnnotation,
    FeatureLabel,
)
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.security.principal import ForbiddenError, Principal, Role
from sqlalchemy import delete, select

CIRCUIT, DICTIONARY = "cx_1", "sae_1"
FEATURE = FeatureName(DICTIONARY, "resid_post.12", 47)


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
        session.add(artifact(tenant_id, DICTIONARY, "dictionary"))


async def test_a_circuit_has_nothing_written_about_it_until_somebody_does(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        assert await read_annotation(session, CIRCUIT) is None
        first = await write_annotation(session, ada, CIRCUIT, {"pinned": ["layer1.mlp"]})
        assert (first.revision, first.author) == (1, "key:ada")
        second = await write_annotation(session, ada, CIRCUIT, {"pinned": []}, expected_revision=1)
        assert (second.revision, second.body) == (2, {"pinned": []})
    async with tenant_session(database, tenant_id) as session:
        log = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq))).all()
    assert [(e.action, e.target, e.body["revision"]) for e in log] == [
        ("circuit.annotate", CIRCUIT, 1),
        ("circuit.annotate", CIRCUIT, 2),
    ]
    assert log[0].body["pinned"] == ["layer1.mlp"]


async def test_nobody_overwrites_what_they_have_not_seen(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        await write_annotation(session, ada, CIRCUIT, {"pinned": ["a"]}, expected_revision=0)
        await write_label(session, ada, FEATURE, "locks", expected_revision=0)
    for write in (
        lambda s: write_annotation(s, ada, CIRCUIT, {}, expected_revision=0),
        lambda s: write_label(s, ada, FEATURE, "doors", expected_revision=7),
    ):
        with pytest.raises(AnnotationChangedError, match="by key:ada; it is at revision 1"):
            async with tenant_session(database, tenant_id) as session:
                await write(session)


async def test_features_are_named_and_unnamed(database, tenant_id, ada):
    other = FeatureName(DICTIONARY, "resid_post.12", 48)
    async with tenant_session(database, tenant_id) as session:
        assert await read_label(session, FEATURE) is None
        await write_label(session, ada, FEATURE, "locks and keys")
        await write_label(session, ada, other, "doors")
        found = await labels_of(session, DICTIONARY, "resid_post.12", [47, 48, 49])
        assert found == {47: "locks and keys", 48: "doors"}
        await write_label(session, ada, FEATURE, "", expected_revision=1)
        assert await labels_of(session, DICTIONARY, "resid_post.12", [47, 48]) == {48: "doors"}


async def test_only_what_it_is_about_can_be_written_about(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        for name in (DICTIONARY, "cx_none"):
            with pytest.raises(NotFoundError):
                await write_annotation(session, ada, name, {})
        with pytest.raises(NotFoundError):
            await write_label(session, ada, FeatureName(CIRCUIT, "resid_post.1", 1), "x")


async def test_viewers_write_nothing(database, tenant_id):
    viewer = Principal.of(tenant_id, "key:eyes", [Role.VIEWER])
    async with tenant_session(database, tenant_id) as session:
        with pytest.raises(ForbiddenError):
            await write_annotation(session, viewer, CIRCUIT, {})
        with pytest.raises(ForbiddenError):
            await write_label(session, viewer, FEATURE, "x")


async def test_another_tenant_sees_none_of_it(database, tenant_id, other_tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        await write_annotation(session, ada, CIRCUIT, {})
        await write_label(session, ada, FEATURE, "locks")
    async with tenant_session(database, other_tenant_id) as session:
        assert (await session.scalars(select(CircuitAnnotation))).all() == []
        assert (await session.scalars(select(FeatureLabel))).all() == []
        with pytest.raises(NotFoundError):
            await read_annotation(session, CIRCUIT)


async def test_it_goes_with_the_artifact(database, tenant_id, ada):
    async with tenant_session(database, tenant_id) as session:
        await write_annotation(session, ada, CIRCUIT, {})
        await write_label(session, ada, FEATURE, "locks")
        await session.execute(delete(Artifact))
    async with tenant_session(database, tenant_id) as session:
        assert (await session.scalars(select(CircuitAnnotation))).all() == []
        assert (await session.scalars(select(FeatureLabel))).all() == []
