"""An installation is brought back from a backup, elsewhere, to the last byte, and stays closed."""

import asyncio
import hashlib
import json
import os
import secrets
import shutil

import pytest
import pytest_asyncio
from interpretops_platform import audit, retention
from interpretops_platform.artifacts import MANIFEST, download, find, lineage, register, upload
from interpretops_platform.audit import AuditBrokenError
from interpretops_platform.backup import BackupError, back_up, restore
from interpretops_platform.database.engine import Database, create_migration_engine
from interpretops_platform.database.leader import alone
from interpretops_platform.database.models import Artifact, AuditEntry, Job
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.objects.s3 import S3Blobs
from interpretops_platform.objects.sealed import SealBrokenError
from interpretops_platform.retention import retain
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.settings import CacheSettings, ObjectsSettings, SecuritySettings
from interpretops_platform.tenants import TenantStores, create_tenant, list_tenants, shred_tenant
from pydantic import SecretStr
from sqlalchemy import select, text, update
from ulid import ULID


def quiet(_):
    pass


@pytest.fixture
def here(settings, tmp_path):
    """The installation that is backed up: sealed objects in a folder."""
    create_key_file(tmp_path / "master-key")
    changes = {
        "cache": CacheSettings(dir=tmp_path / "cache"),
        "objects": ObjectsSettings(folder=tmp_path / "objects"),
        "security": SecuritySettings(master_key_file=tmp_path / "master-key"),
    }
    return settings.model_copy(update=changes)


@pytest.fixture(params=["folder"])
def there(request, here, postgres_server, tmp_path):
    """An empty installation elsewhere, with the same master key."""
    name = f"restored_{secrets.token_hex(6)}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    objects = ObjectsSettings(folder=tmp_path / "elsewhere")
    if request.param == "bucket":
        server = request.getfixturevalue("s3")
        objects = ObjectsSettings(
            endpoint=server.endpoint,
            bucket=f"test-{secrets.token_hex(6)}",
            region="us-east-1",
            access_key=SecretStr(server.access_key),
            secret_key=SecretStr(server.secret_key),
        )
        S3Blobs(objects).ensure_bucket()
    settings = postgres_server.settings(name)
    changes = {"cache": CacheSettings(dir=tmp_path / "cache2"), "objects": objects}
    yield settings.model_copy(update=changes | {"security": here.security})
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def pools(there):
    database = Database(there, name="restored")
    yield database
    await database.close()


async def publish(settings, database, tenant_id, tmp_path, *parents):
    """Register an artifact of two files, one of which every artifact has."""
    folder = tmp_path / str(ULID())
    folder.mkdir()
    files = []
    for name, content in (("own", os.urandom(3000)), ("shared", b"the same")):
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(
            {"path": name, "sha256": digest, "size": len(content), "media_type": "text/plain"}
        )
    manifest = {
        "id": f"tr_{ULID()}",
        "kind": "trace",
        "schema_version": 1,
        "sha256": "0" * 64,
        "spec_hash": "1" * 64,
        "parents": parents,
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    async with tenant_session(database, tenant_id) as session:
        store = await TenantStores(settings).open(session)
    uploaded = await asyncio.to_thread(upload, store, folder)
    async with tenant_session(database, tenant_id) as session:
        await register(session, tenant_id, uploaded, retention=settings.compliance.retention)
        await audit.append(
            session, tenant_id, actor="ada", action="artifact.make", target=manifest["id"], body={}
        )
    return manifest["id"], folder


@pytest_asyncio.fixture
async def stocked(here, database, tmp_path):
    """Two tenants with artifacts, a third that was shredded, a job, and a backup of all that."""
    master_key = TenantStores(here).master_key
    ours = await create_tenant(database, "ours", master_key)
    theirs = await create_tenant(database, "theirs", master_key)
    gone = await create_tenant(database, "gone", master_key)
    parent, _ = await publish(here, database, ours, tmp_path)
    child, folder = await publish(here, database, ours, tmp_path, parent)
    secret, _ = await publish(here, database, theirs, tmp_path)
    await publish(here, database, gone, tmp_path)
    async with tenant_session(database, gone) as session:
        await shred_tenant(session, actor="test")
    async with tenant_session(database, ours) as session:
        job = await submit(session, ours, JobRequest(kind="trace", spec={"n": 1}))
        kept = update(Job).where(Job.id == job.job.id)
        await session.execute(kept.values(checkpoint_uri="file:///somewhere"))
    summary = await back_up(here, database, tmp_path / "backup", quiet)
    return {"ours": ours, "theirs": theirs, "gone": gone, "child": child, "parent": parent,
            "secret": secret, "folder": folder, "summary": summary}  # fmt: skip


@pytest.mark.parametrize("there", ["folder", "bucket"], indirect=True)
async def test_everything_is_there_again_and_closed(there, pools, stocked, tmp_path, here):
    shutil.rmtree(here.objects.folder)  # the day
    summary, checked = await restore(there, pools, tmp_path / "backup", quiet)
    assert summary == stocked["summary"]
    # Of the two files of an artifact, one is shared within its tenant.
    assert (checked.tenants, checked.artifacts, checked.files) == (3, 3, 5)
    names = {entry.name: entry.shredded_at is not None for entry in await list_tenants(pools)}
    assert names == {"ours": False, "theirs": False, "gone": True}

    async with tenant_session(pools, stocked["ours"]) as session:
        # Lineage, and a sealed artifact to the last byte.
        walked = [row.id for row in await lineage(session, stocked["child"])]
        assert walked == [stocked["parent"], stocked["child"]]
        store = await TenantStores(there).open(session)
        row = await find(session, stocked["child"])
        assert (there.objects.bucket or str(there.objects.folder)) in row.object_uri
        download(store, row, tmp_path / "again")
        for name in ("own", "shared"):
            before = (stocked["folder"] / name).read_bytes()
            assert (tmp_path / "again" / name).read_bytes() == before
        # The log goes on where it was, and says what was done.
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq))).all()
        assert [entry.action for entry in entries][-2:] == ["artifact.make", "installation.restore"]
        head = await audit.verify(session)
        assert head.seq == len(entries) == 4
        # A job that ran begins anew: what it had saved is of another moment.
        assert (await session.scalars(select(Job.checkpoint_uri))).all() == [None]
        # Another tenant still sees nothing.
        with pytest.raises(NotFoundError):
            await find(session, stocked["secret"])
    async with tenant_session(pools, stocked["theirs"]) as session:
        assert (await session.scalars(select(Artifact.id))).all() == [stocked["secret"]]
    # Retention knows every object by its new address, and takes none away.
    deleted = await retain(pools, TenantStores(there), there.compliance.retention)
    assert not deleted.objects
    assert not deleted.artifacts


async def test_a_backup_opens_nothing_by_itself(there, pools, stocked, tmp_path):
    written = b"".join(
        path.read_bytes() for path in sorted((tmp_path / "backup").rglob("*")) if path.is_file()
    )
    assert (stocked["folder"] / "own").read_bytes() not in written
    assert (tmp_path / "master-key").read_bytes().strip() not in written
    assert str(stocked["gone"]) not in os.listdir(tmp_path / "backup" / "objects")
    create_key_file(tmp_path / "another-key")
    other = SecuritySettings(master_key_file=tmp_path / "another-key")
    with pytest.raises(SealBrokenError):
        await restore(
            there.model_copy(update={"security": other}), pools, tmp_path / "backup", quiet
        )


async def test_a_changed_log_is_not_taken_over_in_silence(
    here, there, database, pools, stocked, tmp_path
):
    owner = create_migration_engine(here.owner_url(), here.database)
    async with owner.begin() as connection:
        await connection.execute(text("ALTER TABLE audit_log DISABLE TRIGGER append_only"))
        await connection.execute(text("UPDATE audit_log SET actor = 'eve' WHERE seq = 2"))
    await owner.dispose()
    await back_up(here, database, tmp_path / "second", quiet)
    with pytest.raises(AuditBrokenError):
        await restore(there, pools, tmp_path / "second", quiet)


async def test_retention_is_held_while_objects_are_copied(here, database, stocked, tmp_path):
    busy = asyncio.Event()
    async with alone(database, retention.LOCK) as ours:
        assert ours
        waiting = asyncio.create_task(
            back_up(here, database, tmp_path / "second", lambda _: busy.set())
        )
        await busy.wait()
        await asyncio.sleep(0.3)
        assert not (tmp_path / "second").exists()
    assert (await waiting).objects == stocked["summary"].objects


async def test_what_is_no_backup_or_not_empty_is_refused(
    here, there, database, pools, stocked, tmp_path
):
    with pytest.raises(BackupError, match="is there already"):
        await back_up(here, database, tmp_path / "backup", quiet)
    with pytest.raises(BackupError, match="is no backup"):
        await restore(there, pools, tmp_path / "objects", quiet)
    with pytest.raises(BackupError, match="is not empty"):
        await restore(here, database, tmp_path / "backup", quiet)
    next((tmp_path / "backup" / "objects").rglob("*/*/*")).unlink()
    with pytest.raises(BackupError, match="not whole"):
        await restore(there, pools, tmp_path / "backup", quiet)


@pytest.fixture
def stranger(here, postgres_server):
    """Settings whose owner is bound by row-level security."""
    name = f"plain_{secrets.token_hex(4)}"
    postgres_server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    dsn = here.owner_url().set(username=name, password="x").render_as_string(hide_password=False)
    access = here.database.model_copy(update={"owner_dsn": SecretStr(dsn)})
    yield here.model_copy(update={"database": access})
    postgres_server.execute(f"DROP ROLE {name}")


async def test_an_owner_who_would_dump_nothing_is_told(stranger, database, tmp_path):
    with pytest.raises(BackupError, match="may not see the rows"):
        await back_up(stranger, database, tmp_path / "backup", quiet)
