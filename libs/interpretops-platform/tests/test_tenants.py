"""A tenant has a key of its own, and deleting the key is deleting all it sealed."""

import base64
import os

import pytest
from interpretops_platform.audit import verify
from interpretops_platform.database.models import (
    ApiKey,
    Artifact,
    ArtifactParent,
    AuditEntry,
    Base,
    Job,
    Policy,
)
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError, PlatformError, SettingsError
from interpretops_platform.jobs.lease import LeaseLostError, claim, heartbeat
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.objects.sealed import SealBrokenError
from interpretops_platform.settings import CacheSettings, ObjectsSettings, SecuritySettings
from interpretops_platform.tenants import (
    TenantShreddedError,
    TenantStores,
    create_tenant,
    find_tenant,
    list_tenants,
    open_master_key,
    rewrap_tenants,
    shred_tenant,
)
from sqlalchemy import select, text, update


@pytest.fixture
def sealing(settings, tmp_path):
    path = tmp_path / "master.key"
    path.write_bytes(base64.b64encode(os.urandom(32)))
    path.chmod(0o600)
    return settings.model_copy(
        update={
            "security": SecuritySettings(master_key_file=path),
            "objects": ObjectsSettings(folder=tmp_path / "objects"),
            "cache": CacheSettings(dir=tmp_path / "cache"),
        }
    )


async def test_a_shredded_tenant_is_unreadable_and_the_others_are_not(database, sealing):
    stores = TenantStores(sealing)
    refs = {}
    for name in ("ours", "theirs"):
        tenant_id = await create_tenant(database, name, stores.master_key)
        async with tenant_session(database, tenant_id) as session:
            refs[tenant_id] = (await stores.open(session)).put(name.encode())
    ours, theirs = refs
    async with tenant_session(database, ours) as session:
        await shred_tenant(session, actor="ada")
    async with tenant_session(database, ours) as session:
        with pytest.raises(TenantShreddedError):
            await stores.open(session)
    async with tenant_session(database, theirs) as session:
        assert (await stores.open(session)).get(refs[theirs]) == b"theirs"


@pytest.mark.parametrize("sealed", [True, False])
async def test_shredding_leaves_a_name_and_an_audit_log(database, sealing, settings, sealed):
    stores = TenantStores(sealing if sealed else settings)
    tenant_id = await create_tenant(database, "ours", stores.master_key, actor="ada")
    key = {"prefix": "ab12", "hash": b"h", "name": "n", "scopes": [], "roles": []}
    made = {"kind": "trace", "schema_version": 1, "sha256": "0" * 64, "spec_hash": "1" * 64}
    made |= {"manifest": {}, "object_uri": "file:///nowhere", "size": 1}
    async with tenant_session(database, tenant_id) as session:
        session.add(ApiKey(tenant_id=tenant_id, **key))
        for name in ("tr_1", "sae_1", "cx_1"):
            session.add(Artifact(tenant_id=tenant_id, id=name, **made))
        await session.flush()
        for child, parent in (("sae_1", "tr_1"), ("cx_1", "sae_1"), ("cx_1", "tr_1")):
            session.add(ArtifactParent(tenant_id=tenant_id, artifact_id=child, parent_id=parent))
        job = (await submit(session, tenant_id, JobRequest(kind="trace"))).job
        await session.flush()
        await session.execute(update(Job).values(result_artifact_id="tr_1"))
        values = {"model": "tiny", "yaml": "a: 1", "author": "ada", "artifact_id": "cx_1"}
        session.add(Policy(id="pv_1", tenant_id=tenant_id, name="p", version=1, **values))
    lease = await claim(database, job.id, kinds=["trace"], owner="w", lease_seconds=30)
    async with tenant_session(database, tenant_id) as session:
        deleted = await shred_tenant(session, actor="ada")
    assert (deleted.jobs, deleted.keys, deleted.policies) == (1, 1, ["p@1"])
    assert sorted(deleted.artifacts) == ["cx_1", "sae_1", "tr_1"]
    async with tenant_session(database, tenant_id) as session:
        for table in sorted(Base.metadata.tables.keys() - {"outbox", "tenants", "audit_log"}):
            assert (await session.execute(text(f"SELECT * FROM {table}"))).all() == [], table
        actions = await session.scalars(select(AuditEntry.action).order_by(AuditEntry.seq))
        assert actions.all() == ["tenant.create", "tenant.shred"]
        await verify(session)
        with pytest.raises(TenantShreddedError):
            await stores.open(session)
        with pytest.raises(LeaseLostError):
            await heartbeat(session, lease.lease, lease_seconds=30)
    [entry] = await list_tenants(database)
    assert (entry.name, entry.shredded_at is None) == ("ours", False)


async def test_a_new_master_key_takes_over(database, sealing, settings, tmp_path):
    before = TenantStores(sealing)
    ours = await create_tenant(database, "ours", before.master_key)
    await create_tenant(database, "unsealed", None)
    async with tenant_session(database, ours) as session:
        ref = (await before.open(session)).put(b"ours")
    path = sealing.security.master_key_file
    old, new = path.read_text().split()[0], base64.b64encode(os.urandom(32)).decode()

    async def read(*keys):
        path.write_text("\n".join(keys))
        async with tenant_session(database, ours) as session:
            return (await TenantStores(sealing).open(session)).get(ref)

    assert await read(new, old) == b"ours"
    with pytest.raises(SealBrokenError):
        await read(new)
    path.write_text(f"{new}\n{old}\n")
    assert await rewrap_tenants(database, open_master_key(sealing)) == 1
    assert await read(new) == b"ours"
    async with tenant_session(database, ours) as session:
        actions = await session.scalars(select(AuditEntry.action).order_by(AuditEntry.seq))
        assert actions.all() == ["tenant.create", "tenant.rewrap"]


async def test_a_tenant_is_found_by_name_or_id(database):
    tenant_id = await create_tenant(database, "ours", None)
    for name in ("ours", str(tenant_id)):
        assert (await find_tenant(database, name)).id == tenant_id
    with pytest.raises(NotFoundError):
        await find_tenant(database, "theirs")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201, "\0"])
async def test_odd_names_are_refused(database, name):
    with pytest.raises(PlatformError, match="name of a tenant"):
        await create_tenant(database, name, None)


async def test_sealed_objects_need_the_master_key(database, sealing, settings):
    tenant_id = await create_tenant(database, "ours", TenantStores(sealing).master_key)
    async with tenant_session(database, tenant_id) as session:
        with pytest.raises(SettingsError, match="master_key_file"):
            await TenantStores(settings).open(session)


async def test_names_of_tenants_are_unique(database):
    await create_tenant(database, "ours", None)
    with pytest.raises(PlatformError, match="already"):
        await create_tenant(database, "ours", None)
