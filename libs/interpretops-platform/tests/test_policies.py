"""A policy reaches production by two pairs of eyes, one version at a time, and can go back."""

import asyncio
from functools import partial

import pytest
import pytest_asyncio
from interpretops_platform import policies
from interpretops_platform.audit import verify
from interpretops_platform.canonical import UnstorableError
from interpretops_platform.database.models import Artifact, AuditEntry
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.policies import (
    PolicyChangedError,
    PolicyInvalidError,
    PolicyState,
    PolicyStateError,
)
from interpretops_platform.security.principal import ForbiddenError, Principal, Role
from sqlalchemy import select, text, update

POLICY = "pol_01JZZZZZZZZZZZZZZZZZZZZZZZ"
STEPS = {"propose": policies.propose, "retire": policies.retire}
SEPARATED = {"approve": policies.approve, "activate": policies.activate}


@pytest_asyncio.fixture
async def artifact(database, tenant_id):
    async with tenant_session(database, tenant_id) as session:
        for identifier, kind in ((POLICY, "policy"), ("tr_1", "trace")):
            session.add(
                Artifact(
                    tenant_id=tenant_id,
                    id=identifier,
                    kind=kind,
                    schema_version=1,
                    sha256="0" * 64,
                    spec_hash="1" * 64,
                    manifest={},
                    object_uri="file:///nowhere",
                    size=1,
                )
            )


@pytest.fixture
def who(tenant_id):
    def _who(subject, role=Role.APPROVER):
        return Principal.of(tenant_id, f"key:{subject}", [role])

    return _who


@pytest.fixture
def write(database, tenant_id, artifact):
    async def _write(**values):
        values = {"name": "jailbreak", "yaml": "meta: {}", "author": "key:ada"} | values
        values = {"model": "tiny", "artifact_id": POLICY} | values
        async with tenant_session(database, tenant_id) as session:
            return await policies.create_version(session, tenant_id, **values)

    return _write


@pytest.fixture
def step(database, tenant_id, who):
    """Take one step, or several, in transactions of their own."""

    async def _step(*names, version=1, by="eve", separation=True, **options):
        policy = None
        for name in names:
            change = STEPS.get(name) or partial(SEPARATED[name], separation=separation)
            async with tenant_session(database, tenant_id) as session:
                policy = await change(session, who(by), "jailbreak", version, **options)
        return policy

    return _step


@pytest.fixture
def back(database, tenant_id, who):
    async def _back(by="eve", separation=True, **options):
        async with tenant_session(database, tenant_id) as session:
            return await policies.roll_back(
                session, who(by), "jailbreak", separation=separation, **options
            )

    return _back


@pytest.fixture
def active(database, tenant_id):
    async def _active():
        async with tenant_session(database, tenant_id) as session:
            return (await policies.active(session, "jailbreak")).version

    return _active


@pytest.fixture
def into_production(write, step):
    async def _into_production():
        version = (await write()).version
        await step("propose", "approve", "activate", version=version)

    return _into_production


async def test_the_way_to_production_is_audited_step_by_step(
    database, tenant_id, write, step, active
):
    draft = await write()
    assert (draft.version, draft.state, draft.model, draft.revision) == (1, "draft", "tiny", 1)
    assert (await step("propose", by="ada")).state == PolicyState.PROPOSED
    approved = await step("approve")
    assert (approved.approver, approved.approved_at is None) == ("key:eve", False)
    live = await step("activate", by="bob")
    assert (live.state, live.revision, await active()) == ("active", 4, 1)
    async with tenant_session(database, tenant_id) as session:
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq))).all()
        await verify(session)
    assert [(entry.actor, entry.action, entry.target) for entry in entries] == [
        ("key:ada", "policy.create", "jailbreak@1"),
        ("key:ada", "policy.propose", "jailbreak@1"),
        ("key:eve", "policy.approve", "jailbreak@1"),
        ("key:bob", "policy.activate", "jailbreak@1"),
    ]
    assert len(entries[0].body["sha256"]) == 64


async def test_one_version_is_active_and_the_one_before_comes_back(into_production, active, back):
    for version in (1, 2, 3):
        await into_production()
        assert await active() == version
    assert (await back()).version == 2
    assert (await back()).version == 1, "going back twice goes back two steps"
    with pytest.raises(NotFoundError, match="ever active"):
        await back()
    assert (await back(to_version=3)).version == 3
    assert await active() == 3


async def test_a_change_that_fails_leaves_everything_as_it_was(
    database, tenant_id, into_production, write, step, active, who
):
    await into_production()
    await write()
    await step("propose", "approve", version=2)
    with pytest.raises(ZeroDivisionError):
        async with tenant_session(database, tenant_id) as session:
            await policies.activate(session, who("eve"), "jailbreak", 2, separation=True)
            raise ZeroDivisionError
    assert await active() == 1
    async with tenant_session(database, tenant_id) as session:
        assert (await verify(session)).seq == 7


async def test_nobody_approves_or_activates_their_own_work(write, step, active):
    await write()
    await step("propose", by="ada")
    with pytest.raises(ForbiddenError, match="wrote"):
        await step("approve", by="ada")
    await step("approve")
    with pytest.raises(ForbiddenError, match="wrote"):
        await step("activate", by="ada")
    with pytest.raises(NotFoundError):
        await active()


async def test_going_back_obeys_the_same_rule(into_production, back, active):
    await into_production()
    await into_production()
    with pytest.raises(ForbiddenError, match="wrote"):
        await back(by="ada")
    assert await active() == 2


async def test_separation_can_be_switched_off(write, step, back, active):
    for version in (1, 2):
        await write()
        await step("propose", "approve", "activate", version=version, by="ada", separation=False)
    with pytest.raises(ForbiddenError, match="its author"):
        await back()
    assert (await back(by="ada", separation=False)).version == await active() == 1


@pytest.mark.parametrize("name", ["propose", "approve", "activate", "retire"])
async def test_each_step_needs_its_scope(database, tenant_id, write, who, name):
    await write()
    role = Role.VIEWER if name == "propose" else Role.OPERATOR
    change = STEPS.get(name) or partial(SEPARATED[name], separation=True)
    with pytest.raises(ForbiddenError, match="scope"):
        async with tenant_session(database, tenant_id) as session:
            await change(session, who("bob", role), "jailbreak", 1)
    with pytest.raises(ForbiddenError, match="scope"):
        async with tenant_session(database, tenant_id) as session:
            await policies.roll_back(session, who("bob", role), "jailbreak", separation=True)


@pytest.mark.parametrize(
    ("taken", "refused"),
    [
        ((), "approve"),
        (("propose",), "propose"),
        (("propose", "approve"), "approve"),
        (("propose", "approve", "activate"), "propose"),
        (("propose", "approve", "activate", "retire"), "retire"),
        (("retire",), "propose"),
    ],
)
async def test_steps_have_an_order(write, step, taken, refused):
    await write()
    await step(*taken)
    with pytest.raises(PolicyStateError) as caught:
        await step(refused)
    assert "Fix: " in str(caught.value)


async def test_what_was_never_approved_is_not_activated(write, step):
    await write()
    with pytest.raises(ForbiddenError, match="approved"):
        await step("activate")
    with pytest.raises(PolicyStateError):
        await step("activate", separation=False)


async def test_who_saw_an_older_state_changes_nothing(write, step, into_production, back):
    seen = (await write()).revision
    await step("propose")
    with pytest.raises(PolicyChangedError, match="proposed now, at revision 2"):
        await step("approve", expected_revision=seen)
    assert (await step("approve", expected_revision=seen + 1)).state == "approved"
    await step("activate")
    await into_production()
    with pytest.raises(PolicyChangedError):
        await back(expected_revision=3)
    assert (await back(expected_revision=4)).version == 1


async def test_two_at_once_activate_one_after_the_other(write, step, active):
    for version in (1, 2, 3, 4):
        await write()
        await step("propose", "approve", version=version)
    done = await asyncio.gather(*(step("activate", version=version) for version in (1, 2, 3, 4)))
    assert {policy.state for policy in done} == {"active"}
    assert await active() in (1, 2, 3, 4)


async def test_versions_written_at_once_are_numbered_apart(write):
    written = await asyncio.gather(*(write() for _ in range(8)))
    assert sorted(policy.version for policy in written) == list(range(1, 9))


async def test_what_cannot_come_back_does_not(
    database, tenant_id, write, step, back, into_production
):
    await write()
    with pytest.raises(PolicyStateError, match="not in production before"):
        await back(to_version=1)
    await step("propose", "approve", "activate")
    await into_production()
    async with tenant_session(database, tenant_id) as session:
        expired = update(policies.Policy).where(policies.Policy.version == 1)
        await session.execute(expired.values(artifact_id=None))
    with pytest.raises(PolicyStateError, match="retention"):
        await back()
    await step("retire", version=2)
    with pytest.raises(NotFoundError, match="say which"):
        await back()


async def test_lists_go_by_pages(database, tenant_id, write):
    for name in ("toxicity", "jailbreak", "jailbreak"):
        await write(name=name, yaml=f"meta: {{id: {name}}}")
    async with tenant_session(database, tenant_id) as session:
        first = await policies.list_policies(session, limit=1)
        rest = await policies.list_policies(session, after="jailbreak")
        newest = await policies.list_versions(session, "jailbreak", limit=1)
        older = await policies.list_versions(session, "jailbreak", before=2)
        assert await policies.list_versions(session, "nothing") == []
    named = [[(p.name, p.version) for p in page] for page in (first, rest, newest, older)]
    assert named == [
        [("jailbreak", 2)],
        [("toxicity", 1)],
        [("jailbreak", 2)],
        [("jailbreak", 1)],
    ]


async def test_a_difference_is_shown_line_by_line(write):
    older = await write(yaml="a: 1\nb: 2\n")
    newer = await write(yaml="a: 1\nb: 3\n")
    assert policies.diff(older, older) == ""
    shown = policies.diff(older, newer).splitlines()
    assert shown[:2] == ["--- jailbreak@1", "+++ jailbreak@2"]
    assert shown[-2:] == ["-b: 2", "+b: 3"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"name": "No Spaces"}, PolicyInvalidError),
        ({"name": ""}, PolicyInvalidError),
        ({"name": "a" * 65}, PolicyInvalidError),
        ({"model": ""}, PolicyInvalidError),
        ({"yaml": " \n"}, PolicyInvalidError),
        ({"yaml": "é" * 500_001}, PolicyInvalidError),
        ({"yaml": "a: \x00"}, UnstorableError),
        ({"artifact_id": "tr_1"}, PolicyInvalidError),
        ({"artifact_id": "pol_2"}, NotFoundError),
    ],
)
async def test_what_is_no_policy_is_refused(write, values, error):
    with pytest.raises(error, match="Fix: "):
        await write(**values)


async def test_another_tenant_has_no_such_policy(database, other_tenant_id, into_production):
    await into_production()
    stranger = Principal.of(other_tenant_id, "key:mallory", [Role.ADMIN])
    async with tenant_session(database, other_tenant_id) as session:
        assert await policies.list_policies(session) == []
        for attempt in (
            policies.active(session, "jailbreak"),
            policies.get(session, "jailbreak", 1),
            policies.retire(session, stranger, "jailbreak", 1),
            policies.roll_back(session, stranger, "jailbreak", separation=False, to_version=1),
        ):
            with pytest.raises(NotFoundError):
                await attempt


async def test_the_database_itself_keeps_one_active(database, tenant_id, into_production, write):
    await into_production()
    await write()
    with pytest.raises(Exception, match="uq_policies_active"):
        async with tenant_session(database, tenant_id) as session:
            await session.execute(text("UPDATE policies SET state = 'active' WHERE version = 2"))
