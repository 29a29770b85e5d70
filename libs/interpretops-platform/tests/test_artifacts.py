"""Artifacts travel between machines whole, with all they were made from, or not at all."""

import hashlib
import json
from datetime import timedelta

import pytest
from interpretops_platform.artifacts import (
    MANIFEST,
    ArtifactDamagedError,
    download,
    find,
    lineage,
    register,
    upload,
)
from interpretops_platform.database.models import Artifact
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.objects.file import FileBlobs
from interpretops_platform.objects.sealed import Seal, new_data_key
from interpretops_platform.objects.store import ObjectCorruptError, ObjectStore
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from ulid import ULID

DAY = timedelta(days=1)


@pytest.fixture(params=["plain", "sealed"])
def store(request, tenant_id, tmp_path):
    seal = Seal(new_data_key(), tenant_id) if request.param == "sealed" else None
    return ObjectStore(
        FileBlobs(tmp_path / "objects"), tenant_id, cache=tmp_path / "cache", seal=seal
    )


@pytest.fixture
def exported(tmp_path):
    """An artifact as a folder, the way the engine exports one."""

    def _exported(prefix="tr", parents=(), **files):
        files = files or {"config.json": b"{}", "layers/8.safetensors": b"\0" * 5000}
        folder = tmp_path / str(ULID())
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        manifest = {
            "schema_version": 1,
            "kind": "trace",
            "id": f"{prefix}_{ULID()}",
            "sha256": "0" * 64,
            "spec": {"rate": 0.1},
            "spec_hash": "1" * 64,
            "parents": list(parents),
            "files": [
                {
                    "path": name,
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "media_type": "application/json",
                }
                for name, content in files.items()
            ],
        }
        (folder / MANIFEST).write_text(json.dumps(manifest))
        return folder, manifest

    return _exported


@pytest.fixture
def published(database, tenant_id, store, exported):
    async def _published(*arguments, **options):
        folder, manifest = exported(*arguments, **options)
        uploaded = upload(store, folder)
        async with tenant_session(database, tenant_id) as session:
            await register(session, tenant_id, uploaded, retention=DAY)
        return manifest["id"]

    return _published


def _files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


async def test_what_is_published_is_fetched(database, tenant_id, store, exported, tmp_path):
    folder, manifest = exported()
    uploaded = upload(store, folder)
    for _ in range(2):
        async with tenant_session(database, tenant_id) as session:
            await register(session, tenant_id, uploaded, retention=DAY)
    async with tenant_session(database, tenant_id) as session:
        artifact = await find(session, manifest["id"])
    assert (artifact.size, artifact.kind) == (5002, "trace")
    download(store, artifact, tmp_path / "fetched")
    assert _files(tmp_path / "fetched") == _files(folder)
    assert json.loads((tmp_path / "fetched" / MANIFEST).read_text()) == manifest


async def test_what_is_made_again_is_kept_longer_and_never_shorter(
    database, tenant_id, store, exported
):
    folder, manifest = exported()
    uploaded = upload(store, folder)
    ends = []
    for days in (1, 3, 2):
        async with tenant_session(database, tenant_id) as session:
            await register(session, tenant_id, uploaded, retention=days * DAY)
        async with tenant_session(database, tenant_id) as session:
            ends.append((await find(session, manifest["id"])).expires_at)
    assert timedelta(days=2) <= ends[1] - ends[0] < timedelta(days=2, minutes=1)
    assert ends[2] == ends[1]


async def test_the_lineage_puts_parents_first(database, tenant_id, published):
    trace = await published()
    one, two = await published("sae", [trace]), await published("sae", [trace])
    circuit = await published("cx", [one, two, trace])
    async with tenant_session(database, tenant_id) as session:
        order = [artifact.id for artifact in await lineage(session, circuit)]
        assert [artifact.id for artifact in await lineage(session, trace)] == [trace]
    assert (order[0], order[-1], set(order[1:3])) == (trace, circuit, {one, two})


async def test_an_artifact_without_its_parents_is_refused(database, tenant_id, published):
    with pytest.raises(IntegrityError, match="fk_artifact_parents_parent"):
        await published("sae", [f"tr_{ULID()}"])
    async with tenant_session(database, tenant_id) as session:
        assert (await session.scalars(select(Artifact))).all() == []


@pytest.mark.parametrize("damage", ["altered", "missing", "no manifest", "linked"])
def test_a_damaged_folder_is_not_published(store, exported, tmp_path, damage):
    folder, _ = exported()
    path = folder / "config.json"
    if damage == "altered":
        path.write_bytes(b"[]")
    elif damage == "missing":
        path.unlink()
    elif damage == "linked":
        path.unlink()
        (tmp_path / "outside").write_bytes(b"{}")
        path.symlink_to(tmp_path / "outside")
    else:
        (folder / MANIFEST).unlink()
    with pytest.raises(ArtifactDamagedError):
        upload(store, folder)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", MANIFEST, "a\\..\\x"])
def test_a_path_that_leaves_the_folder_is_refused(store, exported, path):
    folder, manifest = exported()
    manifest["files"][0]["path"] = path
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactDamagedError, match="inside its folder"):
        upload(store, folder)


async def test_another_artifact_cannot_take_its_id(database, tenant_id, store, exported, published):
    identifier = await published()
    folder, manifest = exported()
    (folder / MANIFEST).write_text(json.dumps({**manifest, "id": identifier, "seeds": [1]}))
    with pytest.raises(ArtifactDamagedError, match="another artifact"):
        async with tenant_session(database, tenant_id) as session:
            await register(session, tenant_id, upload(store, folder), retention=DAY)


async def test_a_payload_that_is_gone_or_changed_is_not_fetched(
    database, tenant_id, store, published, tmp_path
):
    identifier = await published(**{"a.json": b"12345"})
    async with tenant_session(database, tenant_id) as session:
        artifact = await find(session, identifier)
    forged = artifact.manifest["files"][0] | {"size": 4}
    changed = Artifact(manifest=artifact.manifest | {"files": [forged]})
    with pytest.raises(ObjectCorruptError):
        download(store, changed, tmp_path / "changed")
    store.delete(store.ref(forged["sha256"], 5, "application/json"))
    with pytest.raises(NotFoundError):
        download(store, artifact, tmp_path / "gone")
    for folder in ("changed", "gone"):
        assert not (tmp_path / folder / MANIFEST).exists()


async def test_another_tenants_artifact_does_not_exist(database, other_tenant_id, published):
    identifier = await published()
    async with tenant_session(database, other_tenant_id) as session:
        for look in (find, lineage):
            with pytest.raises(NotFoundError):
                await look(session, identifier)


async def test_manifests_are_searched_by_an_index(database, tenant_id, published):
    identifier = await published()
    async with tenant_session(database, tenant_id) as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        query = 'SELECT id FROM artifacts WHERE manifest @> \'{"kind": "trace"}\''
        assert (await session.scalars(text(query))).all() == [identifier]
        plan = "\n".join((await session.scalars(text(f"EXPLAIN {query}"))).all())
    assert "ix_artifacts" in plan
