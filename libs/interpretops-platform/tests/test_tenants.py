"""A tenant has a key of its own, and deleting the key is deleting all it sealed."""

import base64
import os

import pytest
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import PlatformError, SettingsError
from interpretops_platform.settings import CacheSettings, ObjectsSettings, SecuritySettings
from interpretops_platform.tenants import (
    TenantShreddedError,
    TenantStores,
    create_tenant,
    shred_tenant,
)


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
        await shred_tenant(session)
    async with tenant_session(database, ours) as session:
        with pytest.raises(TenantShreddedError):
            await stores.open(session)
    async with tenant_session(database, theirs) as session:
        assert (await stores.open(session)).get(refs[theirs]) == b"theirs"


async def test_sealed_objects_need_the_master_key(database, sealing, settings):
    tenant_id = await create_tenant(database, "ours", TenantStores(sealing).master_key)
    async with tenant_session(database, tenant_id) as session:
        with pytest.raises(SettingsError, match="master_key_file"):
            await TenantStores(settings).open(session)


async def test_names_of_tenants_are_unique(database):
    await create_tenant(database, "ours", None)
    with pytest.raises(PlatformError, match="already"):
        await create_tenant(database, "ours", None)
