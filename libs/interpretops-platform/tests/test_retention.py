"""What has had its time is deleted, what is still needed is not, and no upload loses its objects."""

import asyncio
import hashlib
import json
import os
import secrets
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from interpretops_platform import policies
from interpretops_platform.artifacts import MANIFEST, register, upload
from interpretops_platform.audit import verify
from interpretops_platform.database.engine import create_migration_engine
from interpretops_platform.database.models import Artifact, AuditEntry, Job, Policy
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.objects.s3 import S3Blobs
from interpretops_platform.objects.sealed import SealBrokenError
from interpretops_platform.objects.store import ObjectStore
from interpretops_platform.retention import keep_retaining, retain
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.principal import Principal, Role
from interpretops_platform.settings import (
    CacheSettings,
    ComplianceSettings,
    ObjectsSettings,
    SecuritySettings,
)
from interpretops_platform.tenants import TenantStores, create_tenant, shred_tenant
from pydantic import SecretStr
from sqlalchemy import select, text, update
from ulid import ULID

NOW, DAY = timedelta(0), timedelta(days=1)


def on(*kinds):
    """Run a test over these stores instead of a plain folder."""
    return pytest.mark.parametrize("installation", kinds, indirect=True)


on_every_store = on("file", "file sealed", "s3", "s3 sealed")


@pytest.fixture
def installation(request, settings, tmp_path):
    """Settings over a store."""
    kind = getattr(request, "param", "file")
    values = {"cache": CacheSettings(dir=tmp_path / "cache")}
    objects = ObjectsSettings(folder=tmp_path / "objects")
    if kind.startswith("s3"):
        server = request.getfixturevalue("s3")
        objects = ObjectsSettings(
            endpoint=server.endpoint,
            bucket=f"test-{secrets.token_hex(6)}",
            region="us-east-1",
            access_key=SecretStr(server.access_key),
            secret_key=SecretStr(server.secret_key),
        )
        S3Blobs(objects).ensure_bucket()
    if kind.endswith("sealed"):
        create_key_file(tmp_path / "master-key")
        values["security"] = SecuritySettings(master_key_file=tmp_path / "master-key")
    return settings.model_copy(update=values | {"objects": objects})


@pytest.fixture
def stores(installation):
    return TenantStores(installation)


@pytest_asyncio.fixture
async def ours(database, stores):
    return await create_tenant(database, "ours", stores.master_key)


@pytest.fixture
def store(database, stores, ours):
    async def _store(tenant_id=ours):
        async with tenant_session(database, tenant_id) as session:
            return await stores.open(session)

    return _store


@pytest.fixture
def publish(database, ours, store, tmp_path):
    """Register an artifact whose time ends so many days from now."""

    async def _publish(days, *parents, prefix="tr", kind="trace", content=None):
        folder = tmp_path / str(ULID())
        folder.mkdir()
        content = os.urandom(100) if content is None else content
        (folder / "data").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        file = {"path": "data", "sha256": digest, "size": len(content), "media_type": "a/b"}
        manifest = {
            "id": f"{prefix}_{ULID()}",
            "kind": kind,
            "schema_version": 1,
            "sha256": "0" * 64,
            "spec_hash": "1" * 64,
            "parents": parents,
            "files": [file],
        }
        (folder / MANIFEST).write_text(json.dumps(manifest))
        uploaded = await asyncio.to_thread(upload, await store(), folder)
        async with tenant_session(database, ours) as session:
            await register(session, ours, uploaded, retention=days * DAY)
        return manifest["id"]

    return _publish


@pytest.fixture
def run(database, stores):
    async def _run(retention=DAY, grace=NOW):
        return await retain(database, stores, retention, grace=grace)

    return _run


@pytest.fixture
def left(database, ours):
    async def _left():
        async with tenant_session(database, ours) as session:
            return set(await session.scalars(select(Artifact.id)))

    return _left


@pytest.fixture
def objects(store):
    async def _objects():
        return len(list((await store()).entries()))

    return _objects


@pytest.fixture
def by_owner(settings):
    """What no role may do, such as turning back the time of a row."""

    async def _by_owner(statement):
        owner = create_migration_engine(settings.owner_url(), settings.database)
        async with owner.begin() as connection:
            await connection.execute(text(statement))
        await owner.dispose()

    return _by_owner


@on_every_store
async def test_what_expired_goes_with_its_objects_and_the_rest_stays(
    database, ours, publish, run, left, objects, store
):
    gone, kept = await publish(-1), await publish(1)
    assert await objects() == 4
    deleted = await run()
    assert (deleted.artifacts, deleted.objects) == ([gone], 2)
    assert (await left(), await objects()) == ({kept}, 2)
    async with tenant_session(database, ours) as session:
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq))).all()
        await verify(session)
        manifest = (await session.scalars(select(Artifact.manifest))).one()
    assert [entry.action for entry in entries[1:]] == ["retention.delete"] * 2
    assert (entries[1].actor, entries[1].body) == ("retention", {"artifacts": [gone]})
    assert entries[2].body["objects"] == 2
    file = manifest["files"][0]
    assert len((await store()).get((await store()).ref(file["sha256"], 100, "a/b"))) == 100
    assert not await run(), "nothing is left to delete, and nothing is written about it"


async def test_nothing_that_something_younger_came_from_is_deleted(publish, run, left):
    trace = await publish(-9)
    dictionary = await publish(-9, trace, prefix="sae")
    circuit = await publish(1, dictionary, prefix="cx")
    loose = await publish(-9, trace, prefix="sae")
    assert (await run()).artifacts == [loose]
    assert await left() == {trace, dictionary, circuit}


async def test_a_whole_expired_lineage_goes_children_first(publish, run, left):
    trace = await publish(-9)
    dictionary = await publish(-9, trace, prefix="sae")
    circuit = await publish(-9, dictionary, trace, prefix="cx")
    assert (await run()).artifacts == [circuit, dictionary, trace]
    assert await left() == set()


@on_every_store
async def test_shared_content_stays_while_one_artifact_has_it(publish, run, left, objects):
    await publish(-1, content=b"same")
    kept = await publish(1, content=b"same")
    assert await objects() == 3
    assert (await run()).objects == 1
    assert (await left(), await objects()) == ({kept}, 2)


async def test_a_policy_keeps_its_artifact_until_it_is_long_retired(
    database, ours, publish, run, left, by_owner
):
    parent = await publish(-9)
    artifact = await publish(-9, parent, prefix="pol", kind="policy")
    principal = Principal.of(ours, "key:eve", [Role.ADMIN])
    values = {"model": "tiny", "yaml": "a: 1", "artifact_id": artifact, "author": "key:ada"}
    async with tenant_session(database, ours) as session:
        await policies.create_version(session, ours, name="p", **values)
        await policies.propose(session, principal, "p", 1)
    await by_owner("UPDATE policies SET created_at = now() - interval '9 days'")
    separated = {"separation": True}
    for step, options in (
        (None, {}),
        (policies.approve, separated),
        (policies.activate, separated),
        (policies.retire, {}),
    ):
        if step is not None:
            async with tenant_session(database, ours) as session:
                await step(session, principal, "p", 1, **options)
        assert not await run()
        assert await left() == {parent, artifact}
    await by_owner("UPDATE policies SET retired_at = now() - interval '2 days'")
    deleted = await run()
    assert (deleted.policies, deleted.artifacts) == (["p@1"], [artifact, parent])
    async with tenant_session(database, ours) as session:
        policy = await policies.get(session, "p", 1)
        assert (policy.artifact_id, policy.yaml) == (None, "a: 1")


async def test_old_drafts_do_not_keep_their_artifact(database, ours, publish, run, left, by_owner):
    artifact = await publish(-9, prefix="pol", kind="policy")
    values = {"model": "tiny", "yaml": "a: 1", "artifact_id": artifact, "author": "key:ada"}
    async with tenant_session(database, ours) as session:
        await policies.create_version(session, ours, name="p", **values)
    assert not await run(), "a draft of today keeps it"
    await by_owner("UPDATE policies SET created_at = now() - interval '2 days'")
    assert (await run()).artifacts == [artifact]


async def test_finished_jobs_go_and_unfinished_ones_stay(
    database, ours, publish, run, left, by_owner
):
    result, given = await publish(-9), await publish(-9)
    async with tenant_session(database, ours) as session:
        jobs = [
            (await submit(session, ours, JobRequest(kind="trace", spec=spec))).job.id
            for spec in ({}, {}, {"sae": {"ref": {"id": given}}})
        ]
        ended = {"state": "SUCCEEDED", "finished_at": datetime.now(UTC)}
        await session.execute(
            update(Job).where(Job.id.in_(jobs[:2])).values(**ended, result_artifact_id=result)
        )
    assert not await run(), "all of it is young or still needed"
    await by_owner(
        f"UPDATE jobs SET finished_at = now() - interval '2 days' WHERE id = '{jobs[0]}'"
    )
    deleted = await run()
    assert (deleted.jobs, await left()) == (1, {result, given})
    await by_owner(
        "UPDATE jobs SET finished_at = now() - interval '2 days' WHERE state <> 'QUEUED'"
    )
    deleted = await run()
    assert (deleted.jobs, deleted.artifacts) == (1, [result])
    async with tenant_session(database, ours) as session:
        assert (await session.scalars(select(Job.id))).all() == jobs[2:]
        events = await session.scalars(text("SELECT DISTINCT job_id FROM job_events"))
        assert events.all() == jobs[2:]
        await session.execute(update(Job).values(state="FAILED", finished_at=text("now()")))
    assert (await run()).artifacts == [given]


@on_every_store
async def test_an_upload_without_rows_is_young_enough_to_stay(store, run, objects):
    content = b"yet to be registered"
    ref = (await store()).put(content)
    assert not await run(grace=timedelta(hours=24))
    assert (await store()).get(ref) == content
    assert (await run()).objects == 1
    assert await objects() == 0


@on_every_store
async def test_objects_of_a_job_that_goes_on_stay_however_old(database, ours, store, run, by_owner):
    checkpoint = (await store()).put(b"half way, in a form that only the job knows")
    async with tenant_session(database, ours) as session:
        await submit(session, ours, JobRequest(kind="trace"))
    await by_owner("UPDATE jobs SET created_at = now() - interval '1 hour'")
    assert not await run()
    assert (await store()).exists(checkpoint)
    named = (await store()).put(b"named by the job")
    async with tenant_session(database, ours) as session:
        await session.execute(update(Job).values(checkpoint_uri=named.uri))
    await by_owner("UPDATE jobs SET created_at = now() + interval '1 hour'")
    assert (await run()).objects == 1, "older than the job, and not named by it"
    assert (await store()).exists(named)


@on_every_store
async def test_what_is_put_again_is_young_again(store, run, monkeypatch):
    """The object that an upload finds in its place must not be deleted under it."""
    put = await store()
    ref = put.put(b"of an artifact that is gone")
    [before] = put.entries()
    monkeypatch.setattr("interpretops_platform.objects.store.GRACE", NOW)
    assert put.put(b"of an artifact that is gone") == ref
    [after] = put.entries()
    assert after.written_at >= before.written_at
    assert not put.forget(before, written_before=after.written_at)
    assert put.get(ref) == b"of an artifact that is gone"


@on_every_store
async def test_young_content_is_not_sent_again(store, monkeypatch):
    put = await store()
    ref = put.put(b"once")
    monkeypatch.setattr(type(put._blobs), "write", None)
    assert put.put(b"once") == ref


@on("file", "s3 sealed")
async def test_uploads_and_collections_at_once_leave_nothing_dangling(
    database, ours, publish, run, store
):
    """Collections that only respect the grace never take what an upload is about to register."""
    shared = [os.urandom(50) for _ in range(3)]

    async def upload_some(number):
        for turn in range(4):
            await publish(1 if turn % 2 else -1, content=shared[(number + turn) % 3])

    async def collect_some():
        for _ in range(6):
            await run(grace=timedelta(hours=24))
            await asyncio.sleep(0.01)

    await asyncio.gather(upload_some(0), upload_some(1), collect_some())
    put = await store()
    async with tenant_session(database, ours) as session:
        manifests = (await session.scalars(select(Artifact.manifest))).all()
    assert len(manifests) >= 4
    for manifest in manifests:
        for file in manifest["files"]:
            assert put.exists(put.ref(file["sha256"], file["size"], "a/b"))


async def test_leftovers_of_writes_that_were_cut_off_go(installation, ours, run):
    half = installation.objects.folder / str(ours) / "ab" / ".tmp1234"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    assert (await run()).objects == 1
    assert not half.exists()


@on_every_store
async def test_a_shredded_tenant_loses_its_objects_at_once(
    database, ours, publish, run, stores, objects, store
):
    await publish(1)
    theirs = await create_tenant(database, "theirs", stores.master_key)
    ref = (await store(theirs)).put(b"theirs")
    async with tenant_session(database, ours) as session:
        await shred_tenant(session, actor="ada")
    deleted = await run(grace=timedelta(hours=24))
    assert deleted.objects == 2
    assert list(stores.unsealed(ours).entries()) == []
    assert (await store(theirs)).get(ref) == b"theirs"
    async with tenant_session(database, ours) as session:
        await submit(session, ours, JobRequest(kind="trace"))
    assert (await run()).jobs == 1, "what came in after the shredding goes too"


@on("file sealed")
async def test_a_tenant_whose_key_does_not_open_stops_no_other(
    database, ours, publish, run, left, store
):
    other = await create_tenant(database, "a stranger's", None)
    async with tenant_session(database, other) as session:
        await session.execute(text("UPDATE tenants SET wrapped_data_key = 'x'"))
    await publish(-1)
    with pytest.raises(SealBrokenError):
        await run()
    assert await left() == set()
    assert list((await store()).entries()) == []


async def test_one_process_does_it_at_a_time(run, publish, left):
    artifacts = {await publish(-1) for _ in range(3)}
    results = await asyncio.gather(*(run() for _ in range(4)))
    assert None in results
    deleted = [artifact for result in results if result for artifact in result.artifacts]
    assert sorted(deleted) == sorted(artifacts)
    assert await left() == set()


async def test_it_is_done_again_and_again_and_survives_an_outage(
    database, stores, publish, left, monkeypatch
):
    stop = asyncio.Event()
    settings = ComplianceSettings(retention_days=1, retain_every_hours=0.1 / 3600)
    listed = ObjectStore.entries
    outages = iter([True, False])

    def away(self):
        if next(outages, False):
            raise ConnectionError("the store is away")
        return listed(self)

    monkeypatch.setattr(ObjectStore, "entries", away)
    task = asyncio.create_task(keep_retaining(database, stores, settings, stop))
    for _ in range(2):
        await publish(-1)
        async with asyncio.timeout(20):
            while await left():
                await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(task, 5)
    assert next(outages, None) is None, "both the outage and what came after it were seen"


async def test_another_tenants_rows_are_not_touched(database, ours, publish, run, other_tenant_id):
    async with tenant_session(database, other_tenant_id) as session:
        await submit(session, other_tenant_id, JobRequest(kind="trace"))
    await publish(-1)
    assert (await run()).jobs == 0
    async with tenant_session(database, other_tenant_id) as session:
        assert len((await session.scalars(select(Job.id))).all()) == 1
        assert (await session.scalars(select(Policy.id))).all() == []
        with pytest.raises(NotFoundError):
            await policies.active(session, "p")
