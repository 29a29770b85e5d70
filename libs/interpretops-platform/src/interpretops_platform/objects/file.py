"""Blobs in a folder, for one machine or a shared file system."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from interpretops_platform.objects.blobs import BlobEntry, BlobNotFoundError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta


class FileBlobs:
    """Keys are paths under one folder.

    Args:
        root: The folder; it is made when something is written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def uri(self, key: str) -> str:
        """The address of a key."""
        return self._path(key).as_uri()

    def write(self, key: str, source: Path) -> None:
        """Copy a file to a key, on disk for good before it can be seen.

        Raises:
            StoreUnavailableError: When the folder cannot be written.
        """
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as copy:
                try:
                    with source.open("rb") as content:
                        shutil.copyfileobj(content, copy, 1 << 20)
                    copy.flush()
                    os.fsync(copy.fileno())
                    Path(copy.name).replace(path)
                except BaseException:
                    Path(copy.name).unlink(missing_ok=True)
                    raise
            _sync_folder(path.parent)
        except OSError as error:
            raise StoreUnavailableError(str(error)) from error

    @contextmanager
    def read(self, key: str) -> Iterator[IO[bytes]]:
        """Open a blob for reading.

        Raises:
            BlobNotFoundError: When there is none.
            StoreUnavailableError: When it cannot be read.
        """
        try:
            content = self._path(key).open("rb")
        except FileNotFoundError:
            raise BlobNotFoundError(key) from None
        except OSError as error:
            raise StoreUnavailableError(str(error)) from error
        with content:
            yield content

    def written_at(self, key: str) -> datetime | None:
        """When a blob was written last; none where there is no blob.

        Raises:
            StoreUnavailableError: When the folder cannot be read.
        """
        try:
            return _written_at(self._path(key).stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailableError(str(error)) from error

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        """What is there under keys that begin so, leftovers of writes that were cut off included.

        Raises:
            StoreUnavailableError: When the folder cannot be read.
        """
        try:
            for path in sorted(self._path(prefix).rglob("*")):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        key = path.relative_to(self._root).as_posix()
                        yield BlobEntry(key, _written_at(status), status.st_size)
        except OSError as error:
            raise StoreUnavailableError(str(error)) from error

    def ever(self, prefix: str) -> Iterator[str]:
        """Keys that begin so; a folder remembers nothing that was deleted.

        Raises:
            StoreUnavailableError: When the folder cannot be read.
        """
        return (entry.key for entry in self.entries(prefix))

    def delete(self, key: str) -> None:
        """Remove a blob.

        Raises:
            StoreUnavailableError: When it cannot be removed.
        """
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailableError(str(error)) from error

    def presign(self, key: str, expires: timedelta) -> None:
        """A folder has no URLs that others can read."""

    def _path(self, key: str) -> Path:
        return self._root / key


def _written_at(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
