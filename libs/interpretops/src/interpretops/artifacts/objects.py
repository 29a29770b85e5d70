"""Where bytes are kept: the small interface that a folder and an S3 bucket both serve."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class ObjectStore(Protocol):
    """Named byte strings. A key is a relative path with forward slashes.

    `put_file` and `put_bytes` are atomic: a reader sees the whole object or none.
    """

    def put_file(self, key: str, source: Path) -> None:
        """Store the contents of `source`, which must not change afterwards, under `key`."""
        ...

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store `data` under `key`."""
        ...

    def get_bytes(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            FileNotFoundError: When there is no such object.
        """
        ...

    def local_path(self, key: str) -> Path:
        """A local file that holds the object, fetched first where the store is remote."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that begin with `prefix`, in order."""
        ...

    def delete(self, prefix: str) -> None:
        """Delete every object whose key begins with `prefix`."""
        ...


class FolderStore:
    """Objects as files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_file(self, key: str, source: Path) -> None:
        """Link or copy `source` to its place."""
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            os.link(source, partial)  # the same file system: no copy
        except OSError:
            shutil.copyfile(source, partial)
        _sync(partial)
        os.replace(partial, target)

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write `data` to its place."""
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data)

    def get_bytes(self, key: str) -> bytes:
        """Read the file."""
        return (self.root / key).read_bytes()

    def local_path(self, key: str) -> Path:
        """The file itself."""
        return self.root / key

    def list(self, prefix: str) -> Iterator[str]:
        """Walk the folder."""
        base = self.root / prefix
        top = base if base.is_dir() else base.parent
        for path in sorted(top.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and key.startswith(prefix):
                yield key

    def delete(self, prefix: str) -> None:
        """Remove the file or folder."""
        target = self.root / prefix
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
