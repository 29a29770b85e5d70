"""The objects of one tenant: named by content, checked on every read, sealed where there is a key."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from interpretops_platform.errors import NotFoundError, PlatformError
from interpretops_platform.objects.blobs import BlobNotFoundError
from interpretops_platform.objects.file import FileBlobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from interpretops_platform.objects.blobs import Blobs
    from interpretops_platform.objects.sealed import Seal
    from interpretops_platform.settings import Settings

GRACE = timedelta(hours=24)
"""An object younger than this may belong to an upload whose rows are yet to be written."""
_PIECE = 1 << 20


class ObjectCorruptError(PlatformError):
    """What came back is not what was put in."""

    def __init__(self, ref: ObjectRef) -> None:
        super().__init__(
            f"the content of {ref.uri} is not what was stored", fix="restore it from a backup"
        )


class ObjectRef(BaseModel):
    """How services name an object to one another.

    Attributes:
        uri: Where it lies.
        sha256: Digest of its plain content.
        size: Plain bytes.
        media_type: What the bytes are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    media_type: str = "application/octet-stream"


class StoredObject(NamedTuple):
    """An object as it lies in the store.

    Attributes:
        key: Its key among the blobs.
        uri: Its address.
        written_at: When it was written last, by the clock of the store.
        size: Its bytes, as they are kept.
    """

    key: str
    uri: str
    written_at: datetime
    size: int


class ObjectStore:
    """Puts and gets the objects of one tenant. Its methods block.

    Args:
        blobs: Where bytes are kept.
        tenant_id: Whose objects these are; references to another tenant's are not found.
        cache: Folder for verified copies and for work in progress.
        seal: Encrypts the objects; without one they are kept as they are.
    """

    def __init__(
        self, blobs: Blobs, tenant_id: UUID, *, cache: Path, seal: Seal | None = None
    ) -> None:
        self._blobs = blobs
        self._tenant_id = tenant_id
        self._cache = cache
        self._seal = seal

    @property
    def sealed(self) -> bool:
        """Whether objects are encrypted: then no plain copy of one may outlive its use."""
        return self._seal is not None

    def put(
        self, content: bytes | Path, *, media_type: str = "application/octet-stream"
    ) -> ObjectRef:
        """Keep some content; content that is there already is not sent again while it is young.

        What is put is safe from `forget` for at least half of `GRACE`, which is the time there is to
        write the row that points to it.

        Args:
            content: The bytes, or a file that holds them.
            media_type: What the bytes are.

        Raises:
            StoreUnavailableError: When it cannot be kept now.
        """
        with self._work_file() as (work, path):
            if isinstance(content, bytes):
                work.write(content)
                work.flush()
                source = path
            else:
                source = content
            sha256, size = _digest(source)
            key = self._key(sha256)
            written_at = self._blobs.written_at(key)
            if written_at is None or datetime.now(UTC) - written_at > GRACE / 2:
                if self._seal is None:
                    self._blobs.write(key, source)
                else:
                    self._write_sealed(self._seal, key, source, sha256)
        return self.ref(sha256, size, media_type)

    def ref(self, sha256: str, size: int, media_type: str) -> ObjectRef:
        """How this tenant names some content, whether it is there or not."""
        uri = self._blobs.uri(self._key(sha256))
        return ObjectRef(uri=uri, sha256=sha256, size=size, media_type=media_type)

    def pieces(self, ref: ObjectRef) -> Iterator[bytes]:
        """The content, a piece at a time; the last piece is given out only if all of it is right.

        Raises:
            NotFoundError: When this tenant has no such object.
            ObjectCorruptError: When the content has changed.
            SealBrokenError: When it was sealed and does not open.
            StoreUnavailableError: When it cannot be read now.
        """
        key = self._key_of(ref)
        digest, size, held = hashlib.sha256(), 0, b""
        try:
            with self._blobs.read(key) as source:
                for piece in self._plain(source, ref):
                    if held:
                        yield held
                    held = piece
                    digest.update(piece)
                    size += len(piece)
        except BlobNotFoundError:
            raise _no_such_object(ref) from None
        if (digest.hexdigest(), size) != (ref.sha256, ref.size):
            raise ObjectCorruptError(ref)
        yield held

    def get(self, ref: ObjectRef) -> bytes:
        """The whole content; see `pieces` for what it raises."""
        return b"".join(self.pieces(ref))

    @contextmanager
    def open_local(self, ref: ObjectRef) -> Iterator[Path]:
        """The content as a file on this machine; see `pieces` for what it raises.

        A copy of a plain object is kept for the next time. That of a sealed one is gone with the
        block, for nothing may survive the key.
        """
        if self._seal is not None:
            with self._work_file() as (work, path):
                self._fill(work, ref)
                yield path
            return
        self._key_of(ref)
        kept = self._cache / "objects" / str(self._tenant_id) / ref.sha256[:2] / ref.sha256
        if not kept.is_file():
            with self._work_file() as (work, path):
                self._fill(work, ref)
                kept.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):  # somebody else was faster, with the same content
                    kept.hardlink_to(path)
        yield kept

    def exists(self, ref: ObjectRef) -> bool:
        """Whether this tenant has the object.

        Raises:
            StoreUnavailableError: When that cannot be told now.
        """
        try:
            return self._blobs.written_at(self._key_of(ref)) is not None
        except NotFoundError:
            return False

    def delete(self, ref: ObjectRef) -> None:
        """Forget an object; deleting it twice is deleting it once.

        Raises:
            NotFoundError: When the reference is not this tenant's.
            StoreUnavailableError: When it cannot be deleted now.
        """
        self._blobs.delete(self._key_of(ref))

    def entries(self) -> Iterator[StoredObject]:
        """All objects that this tenant has, whether anything points to them or not.

        Raises:
            StoreUnavailableError: When they cannot be listed now.
        """
        for entry in self._blobs.entries(f"{self._tenant_id}/"):
            yield StoredObject(entry.key, self._blobs.uri(entry.key), entry.written_at, entry.size)

    def forget(self, stored: StoredObject, *, written_before: datetime) -> bool:
        """Delete an object that nothing points to, unless it was put again meanwhile.

        Args:
            stored: From `entries`.
            written_before: An object written since then stays.

        Returns:
            Whether it is gone.

        Raises:
            StoreUnavailableError: When it cannot be deleted now.
        """
        written_at = self._blobs.written_at(stored.key)
        if written_at is not None and written_at >= written_before:
            return False
        self._blobs.delete(stored.key)
        return True

    def presign(self, ref: ObjectRef, *, expires: timedelta = timedelta(minutes=5)) -> str | None:
        """A URL to download the object from without us, or none where only we can read it.

        Raises:
            NotFoundError: When the reference is not this tenant's.
        """
        key = self._key_of(ref)
        return None if self._seal is not None else self._blobs.presign(key, expires)

    def _key(self, sha256: str) -> str:
        name = sha256 if self._seal is None else self._seal.name(sha256)
        return f"{self._tenant_id}/{name[:2]}/{name}"

    def _key_of(self, ref: ObjectRef) -> str:
        # From the digest, never from the address: a caller cannot name what is not theirs.
        key = self._key(ref.sha256)
        if self._blobs.uri(key) != ref.uri:
            raise _no_such_object(ref)
        return key

    def _plain(self, source: IO[bytes], ref: ObjectRef) -> Iterator[bytes]:
        if self._seal is not None:
            yield from self._seal.open(source, sha256=ref.sha256)
            return
        while piece := source.read(_PIECE):
            yield piece

    def _write_sealed(self, seal: Seal, key: str, source: Path, sha256: str) -> None:
        with self._work_file() as (work, path), source.open("rb") as plain:
            seal.seal(plain, work, sha256=sha256)
            work.flush()
            self._blobs.write(key, path)

    def _fill(self, work: IO[bytes], ref: ObjectRef) -> None:
        for piece in self.pieces(ref):
            work.write(piece)
        work.flush()

    @contextmanager
    def _work_file(self) -> Iterator[tuple[IO[bytes], Path]]:
        folder = self._cache / "work"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as work:
            yield work.file, Path(work.name)


def create_blobs(settings: Settings) -> Blobs:
    """The bucket the settings name, else the folder.

    Raises:
        SettingsError: When the bucket is set up in a way that cannot work.
    """
    objects = settings.object_settings()
    if objects.bucket is None:
        return FileBlobs(objects.folder)
    from interpretops_platform.objects.s3 import S3Blobs

    return S3Blobs(objects)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
    return digest.hexdigest(), path.stat().st_size


def _no_such_object(ref: ObjectRef) -> NotFoundError:
    return NotFoundError(f"there is no object {ref.uri}", fix="it may have expired; make it anew")
