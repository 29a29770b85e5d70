"""One contract over every store: in a folder and in a bucket, plain and sealed."""

import base64
import io
import os
import secrets
import urllib.request
from uuid import uuid4

import pytest
from interpretops_platform.errors import NotFoundError, SettingsError
from interpretops_platform.objects.blobs import StoreUnavailableError
from interpretops_platform.objects.file import FileBlobs
from interpretops_platform.objects.s3 import S3Blobs
from interpretops_platform.objects.sealed import (
    FileMasterKey,
    Seal,
    SealBrokenError,
    new_data_key,
)
from interpretops_platform.objects.store import ObjectCorruptError, ObjectStore, create_blobs
from interpretops_platform.settings import ObjectsSettings, Settings, StoreSettings
from pydantic import SecretStr

CHUNK = 1 << 20
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 17]


def s3_settings(server, **changes):
    values = {
        "endpoint": server.endpoint,
        "bucket": f"test-{secrets.token_hex(6)}",
        "region": "us-east-1",
        "access_key": SecretStr(server.access_key),
        "secret_key": SecretStr(server.secret_key),
        "part_mb": 5,
    }
    return ObjectsSettings(**values | changes)


@pytest.fixture(params=["file", "s3"])
def blobs(request, tmp_path):
    if request.param == "file":
        return FileBlobs(tmp_path / "objects")
    bucket = S3Blobs(s3_settings(request.getfixturevalue("s3")))
    bucket.ensure_bucket()
    bucket.ensure_bucket()
    return bucket


@pytest.fixture(params=["plain", "sealed"])
def store(request, blobs, tmp_path):
    tenant_id = uuid4()
    seal = Seal(new_data_key(), tenant_id) if request.param == "sealed" else None
    return ObjectStore(blobs, tenant_id, cache=tmp_path / "cache", seal=seal)


def _tamper(store, ref, change):
    """Change an object behind the store's back."""
    key = store._key(ref.sha256)
    with store._blobs.read(key) as content:
        changed = change(content.read())
    with store._work_file() as (work, path):
        work.write(changed)
        work.flush()
        store._blobs.write(key, path)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_is_got(store, size):
    content = os.urandom(size)
    ref = store.put(content, media_type="text/plain")
    assert (ref.size, ref.media_type) == (size, "text/plain")
    assert store.get(ref) == content
    with store.open_local(ref) as path:
        assert path.read_bytes() == content
    assert store.exists(ref)


def test_a_file_is_kept_like_bytes_even_in_several_parts(store, tmp_path):
    content = os.urandom(6 << 20)
    path = tmp_path / "large"
    path.write_bytes(content)
    ref = store.put(path)
    assert ref == store.put(content)
    assert store.get(ref) == content


def test_the_same_content_is_one_object(store):
    assert store.put(b"one") == store.put(b"one")
    assert store.put(b"one").uri != store.put(b"two").uri


def test_what_is_deleted_is_gone(store):
    ref = store.put(b"x")
    store.delete(ref)
    store.delete(ref)
    assert not store.exists(ref)
    with pytest.raises(NotFoundError):
        store.get(ref)
    assert store.get(store.put(b"x")) == b"x"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:72] + content[73:],
    ],
    ids=["cut", "extended", "flipped", "emptied", "halved", "shifted"],
)
@pytest.mark.parametrize("size", [100, 2 * CHUNK + 5])
def test_changed_content_is_never_given_out(store, change, size):
    ref = store.put(os.urandom(size))
    _tamper(store, ref, change)
    with pytest.raises((ObjectCorruptError, SealBrokenError)):
        store.get(ref)
    with pytest.raises((ObjectCorruptError, SealBrokenError)), store.open_local(ref):
        raise AssertionError("corrupt content was handed out")


def test_another_tenants_object_is_not_found(blobs, tmp_path):
    ours, theirs = (ObjectStore(blobs, uuid4(), cache=tmp_path / "cache") for _ in range(2))
    ref = ours.put(b"secret")
    assert not theirs.exists(ref)
    for use in (theirs.get, theirs.delete, theirs.presign):
        with pytest.raises(NotFoundError):
            use(ref)
    with pytest.raises(NotFoundError), theirs.open_local(ref):
        raise AssertionError("another tenant's object was handed out")
    assert ours.get(ref) == b"secret"


def test_a_forged_address_is_not_found(store, tmp_path):
    ref = store.put(b"x")
    (tmp_path / "passwd").write_bytes(b"x")
    for uri in (
        "file:///etc/passwd",
        (tmp_path / "passwd").as_uri(),
        ref.uri + "/../x",
        "s3://b/k",
    ):
        with pytest.raises(NotFoundError):
            store.get(ref.model_copy(update={"uri": uri}))


def test_nothing_of_sealed_content_is_at_rest(blobs, tmp_path):
    tenant_id = uuid4()
    cache = tmp_path / "cache"
    store = ObjectStore(blobs, tenant_id, cache=cache, seal=Seal(new_data_key(), tenant_id))
    content = b"the prompt of a person" * 100
    ref = store.put(content)
    with blobs.read(store._key(ref.sha256)) as sealed:
        raw = sealed.read()
    assert b"person" not in raw
    assert ref.sha256 not in ref.uri, "the name would tell who has the same content"
    with store.open_local(ref) as path:
        assert path.read_bytes() == content
    left = [path for path in cache.rglob("*") if path.is_file()]
    assert left == []
    assert store.presign(ref) is None


def test_another_key_or_tenant_opens_nothing(blobs, tmp_path):
    tenant_id, key = uuid4(), new_data_key()
    store = ObjectStore(blobs, tenant_id, cache=tmp_path, seal=Seal(key, tenant_id))
    ref = store.put(b"secret")
    with blobs.read(store._key(ref.sha256)) as sealed:
        raw = sealed.read()
    for seal in (Seal(new_data_key(), tenant_id), Seal(key, uuid4())):
        with pytest.raises(SealBrokenError):
            b"".join(seal.open(io.BytesIO(raw), sha256=ref.sha256))
    with pytest.raises(SealBrokenError):
        b"".join(Seal(key, tenant_id).open(io.BytesIO(raw), sha256="0" * 64))


def test_chunks_cannot_be_reordered_or_left_out():
    tenant_id = uuid4()
    seal, digest = Seal(new_data_key(), tenant_id), "0" * 64
    sealed = io.BytesIO()
    seal.seal(io.BytesIO(os.urandom(3 * CHUNK)), sealed, sha256=digest)
    raw, step = sealed.getvalue(), CHUNK + 16
    header, chunks = raw[:40], [raw[40 + i * step :][:step] for i in range(3)]
    for order in ((1, 0, 2), (0, 2), (0, 1), (0, 1, 2, 2), ()):
        forged = header + b"".join(chunks[i] for i in order)
        with pytest.raises(SealBrokenError):
            b"".join(seal.open(io.BytesIO(forged), sha256=digest))


def test_a_download_needs_no_login(s3, tmp_path):
    blobs = S3Blobs(s3_settings(s3))
    blobs.ensure_bucket()
    store = ObjectStore(blobs, uuid4(), cache=tmp_path)
    url = store.presign(store.put(b"a report"))
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"a report"


def test_a_server_that_is_away_is_named_without_secrets(tmp_path):
    settings = ObjectsSettings(
        endpoint="http://127.0.0.1:9",
        bucket="objects",
        region="us-east-1",
        access_key=SecretStr("key"),
        secret_key=SecretStr("hunter2"),
    )
    store = ObjectStore(S3Blobs(settings), uuid4(), cache=tmp_path)
    with pytest.raises(StoreUnavailableError) as caught:
        store.put(b"x")
    assert "hunter2" not in str(caught.value)


def test_the_short_settings_choose_the_bucket():
    assert isinstance(create_blobs(Settings()), FileBlobs)
    store = StoreSettings(s3_endpoint="http://minio:9000", s3_bucket="interpretops-artifacts")
    blobs = create_blobs(Settings(store=store))
    assert blobs.uri("k") == "s3://interpretops-artifacts/k"
    for endpoint in ("minio:9000", "ftp://minio", "http://key:secret@minio"):
        with pytest.raises(SettingsError, match="endpoint"):
            S3Blobs(ObjectsSettings(endpoint=endpoint, bucket="objects"))


def test_master_keys_are_changed_without_losing_tenants():
    tenant_id, data_key = uuid4(), new_data_key()
    old, new = os.urandom(32), os.urandom(32)
    wrapped = FileMasterKey([old]).wrap(data_key, tenant_id)
    both = FileMasterKey([new, old])
    assert both.unwrap(wrapped, tenant_id) == data_key
    again = both.wrap(data_key, tenant_id)
    assert FileMasterKey([new]).unwrap(again, tenant_id) == data_key
    refused = [
        (FileMasterKey([new]), wrapped, tenant_id),
        (FileMasterKey([old]), wrapped, uuid4()),
        (FileMasterKey([old]), wrapped[:-1], tenant_id),
        (FileMasterKey([old]), b"", tenant_id),
    ]
    for master, blob, tenant in refused:
        with pytest.raises(SealBrokenError):
            master.unwrap(blob, tenant)


def test_a_master_key_file_must_be_private_and_sound(tmp_path):
    path = tmp_path / "master.key"
    with pytest.raises(SettingsError, match="cannot be read"):
        FileMasterKey.from_file(path)
    for content, message in (
        (b"c2hvcnQ=", "32 bytes"),
        (b"!", "cannot be read"),
        (b"", "32 bytes"),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SettingsError, match=message):
            FileMasterKey.from_file(path)
    path.write_bytes(base64.b64encode(os.urandom(32)))
    for mode, message in (
        (0o644, "everybody"),
        (0o604, "everybody"),
        (0o660, "not only its owner"),
    ):
        path.chmod(mode)
        with pytest.raises(SettingsError, match=message):
            FileMasterKey.from_file(path)
    path.chmod(0o440)  # as an orchestrator mounts a secret for the group of its volume
    FileMasterKey.from_file(path)
