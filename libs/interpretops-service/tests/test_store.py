"""The engine's store over the platform's: what one machine made, another one finds."""

import asyncio
import shutil

import pytest
from interpretops.artifacts import ArtifactKind
from interpretops.errors import InterpretOpsError
from interpretops_platform.artifacts import find, register
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.tenants import TenantStores
from interpretops_service.engine.store import PlatformStore
from pydantic import BaseModel


class Work(BaseModel):
    what: str


@pytest.fixture
def open_store(installation, tmp_path):
    """A store of a tenant on a machine; its methods block and are run in threads."""

    async def opened(machine="one", tenant_id=None, attempt="1"):
        tenant = tenant_id or installation.tenant_id
        loop = asyncio.get_running_loop()

        def in_session(work):
            async def run():
                async with tenant_session(installation.database, tenant) as session:
                    return await work(session)

            return asyncio.run_coroutine_threadsafe(run(), loop).result()

        objects = await asyncio.to_thread(in_session, TenantStores(installation.settings).open)
        return PlatformStore(
            tmp_path / machine / attempt,
            tmp_path / machine / str(tenant),
            objects=objects,
            in_session=in_session,
        )

    return opened


@pytest.fixture
def publish(installation):
    async def run(store, artifact_id, tenant_id=None):
        tenant = tenant_id or installation.tenant_id
        uploads = await asyncio.to_thread(store.upload, artifact_id)
        async with tenant_session(installation.database, tenant) as session:
            for uploaded in uploads:
                retention = installation.settings.compliance.retention
                await register(session, tenant, uploaded, retention=retention)
        return [uploaded.manifest.id for uploaded in uploads]

    return run


def make(store, what="w", kind=ArtifactKind.TRACE, parents=()):
    with store.draft(kind, Work(what=what), parents=parents) as draft:
        draft.write_json("inner/payload.json", {"what": what})
        return draft.commit().id


async def in_thread(call, *arguments, **named):
    return await asyncio.to_thread(call, *arguments, **named)


async def test_another_machine_fetches_an_artifact_with_its_lineage(open_store, publish):
    one, two = await open_store("one"), await open_store("two")
    trace = await in_thread(make, one)
    dictionary = await in_thread(make, one, kind=ArtifactKind.DICTIONARY, parents=[trace])
    assert await publish(one, dictionary) == [trace, dictionary]
    lineage = await in_thread(two.lineage, dictionary)
    assert [manifest.id for manifest in lineage] == [trace, dictionary]
    folder = await in_thread(two.payload, trace)
    assert (folder / "inner/payload.json").read_text() == '{"what":"w"}'


async def test_only_what_is_missing_is_registered(open_store, publish):
    one = await open_store()
    trace = await in_thread(make, one)
    assert await publish(one, trace) == [trace]
    circuit = await in_thread(make, one, kind=ArtifactKind.CIRCUIT, parents=[trace])
    assert await publish(one, circuit) == [circuit]


async def test_the_same_work_is_found_wherever_it_was_done(open_store, publish):
    one, two = await open_store("one"), await open_store("two")
    trace = await in_thread(make, one)
    assert await in_thread(two.find, ArtifactKind.TRACE, Work(what="w")) is None
    await publish(one, trace)
    found = await in_thread(two.find, ArtifactKind.TRACE, Work(what="w"))
    assert found.id == trace
    assert await in_thread(two.find, ArtifactKind.TRACE, Work(what="other")) is None
    assert await in_thread(two.find, ArtifactKind.CIRCUIT, Work(what="w")) is None


async def test_an_artifact_of_another_tenant_is_not_found(installation, open_store, publish):
    theirs = (await installation.another_tenant()).tenant_id
    one = await open_store("one", theirs)
    trace = await in_thread(make, one)
    await publish(one, trace, theirs)
    ours = await open_store("one")
    with pytest.raises(NotFoundError):
        await in_thread(ours.get, trace)
    assert await in_thread(ours.find, ArtifactKind.TRACE, Work(what="w")) is None


async def test_a_folder_of_this_machine_is_no_artifact(open_store):
    store = await open_store()
    trace = await in_thread(make, store)
    folder = await in_thread(store.payload, trace)
    for name in (str(folder), f"../{trace}", trace[:12], ""):
        with pytest.raises(NotFoundError):
            await in_thread(store.get, name)


async def test_a_copy_that_was_damaged_is_fetched_again(open_store, publish):
    one = await open_store()
    trace = await in_thread(make, one)
    await publish(one, trace)
    file = (await in_thread(one.payload, trace)) / "inner/payload.json"
    file.write_text('{"what":"x"}')
    again = await open_store()
    folder = await in_thread(again.payload, trace)
    assert (folder / "inner/payload.json").read_text() == '{"what":"w"}'


async def test_objects_that_are_gone_mean_that_it_is_made_anew(installation, open_store, publish):
    one, two = await open_store("one"), await open_store("two")
    await publish(one, await in_thread(make, one))
    shutil.rmtree(installation.settings.objects.folder)
    assert await in_thread(two.find, ArtifactKind.TRACE, Work(what="w")) is None


async def test_drafts_belong_to_one_attempt(open_store):
    first, second = await open_store(attempt="1"), await open_store(attempt="2")
    with first.draft(ArtifactKind.TRACE, Work(what="w")) as draft:
        draft.write_json("half.json", {})
        with second.draft(ArtifactKind.TRACE, Work(what="w")) as other:
            assert list(other.path.iterdir()) == []


async def test_what_is_too_old_goes_behind_the_last_job(open_store):
    store = await open_store()
    trace = await in_thread(make, store)
    with store.in_use(retention_days=0):
        with store.in_use(retention_days=0):
            pass
        assert (await in_thread(store.get, trace)).id == trace
    assert store.ls() == []


async def test_an_artifact_that_was_altered_here_is_not_uploaded(open_store, installation):
    store = await open_store()
    trace = await in_thread(make, store)
    folder = await in_thread(store.payload, trace)
    (folder / "inner/payload.json").write_text("{}")
    with pytest.raises((InterpretOpsError, NotFoundError)):
        await in_thread((await open_store()).upload, trace)
    async with tenant_session(installation.database, installation.tenant_id) as session:
        with pytest.raises(NotFoundError):
            await find(session, trace)
