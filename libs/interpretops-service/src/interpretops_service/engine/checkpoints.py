"""Work in progress, kept in the object store, so that another machine goes on where this one died.

The engine's functions leave whatever they have finished in their drafts, and take it up again. A
checkpoint is a list of a draft folder's files, each an object; its address names the list.
"""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urldefrag, urlencode

from interpretops_platform.errors import NotFoundError
from interpretops_platform.objects.blobs import StoreUnavailableError
from interpretops_platform.objects.sealed import SealBrokenError
from interpretops_platform.objects.store import ObjectCorruptError, ObjectRef
from pydantic import BaseModel, ConfigDict, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from interpretops_platform.objects.store import ObjectStore

_LOG = logging.getLogger(__name__)
_SHARE = 10
"""Saving takes at most about a tenth of the time."""
_GONE = (NotFoundError, ObjectCorruptError, SealBrokenError)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    ref: ObjectRef


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file's size and time when it was put into the store, and where it is there."""

    stamp: tuple[int, int]
    ref: ObjectRef


_FILES = TypeAdapter(tuple[_File, ...])


class Checkpoints:
    """Saves a folder of drafts now and then, and restores it.

    Args:
        folder: The drafts of one attempt.
        objects: The tenant's objects.
        announce: Told the address of each checkpoint: `JobContext.save_checkpoint`.
        every_seconds: The least time between two checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        *,
        objects: ObjectStore,
        announce: Callable[[str], None],
        every_seconds: float,
    ) -> None:
        self._folder = folder
        self._objects = objects
        self._announce = announce
        self._every = every_seconds
        self._due = time.monotonic() + every_seconds
        self._saved: dict[str, _Kept] = {}
        self._list: ObjectRef | None = None

    def restore(self, address: str) -> bool:
        """Bring the drafts back that an earlier attempt saved.

        Returns:
            Whether they were there whole; without them the work begins anew.

        Raises:
            StoreUnavailableError: When the objects cannot be read now.
        """
        try:
            listed = _read_address(address)
            for file in _FILES.validate_json(self._objects.get(listed)):
                path = (self._folder / file.path).resolve()
                if not path.is_relative_to(self._folder.resolve()):
                    raise ValueError(f"{file.path} lies outside")
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as target:
                    target.writelines(self._objects.pieces(file.ref))
                found = path.stat()
                self._saved[file.path] = _Kept((found.st_size, found.st_mtime_ns), file.ref)
        except (*_GONE, ValueError, KeyError):
            _LOG.warning("a checkpoint is gone: the work begins anew", exc_info=True)
            self._saved.clear()
            shutil.rmtree(self._folder, ignore_errors=True)  # no half of it is to be gone on from
            return False
        self._list = listed
        return True

    def save_if_due(self) -> None:
        """Save if the last time is long enough ago; while the store is away the work goes on.

        Raises:
            LeaseLostError: When another attempt took over.
        """
        if time.monotonic() < self._due:
            return
        try:
            self.save()
        except StoreUnavailableError:
            self._due = time.monotonic() + self._every
            _LOG.warning("no checkpoint could be saved", exc_info=True)

    def save(self) -> None:
        """Save what has changed; called between two steps, when nobody writes to the drafts.

        Raises:
            LeaseLostError: When another attempt took over.
            StoreUnavailableError: When the objects cannot be written now.
        """
        began = time.monotonic()
        now = {
            path.relative_to(self._folder).as_posix(): self._kept(path)
            for path in sorted(self._folder.rglob("*"))
            if path.is_file() and not path.name.endswith((".lock", ".partial"))
        }
        changed = {name for name, kept in now.items() if self._saved.get(name) != kept}
        if changed:
            files = tuple(_File(path=name, ref=kept.ref) for name, kept in now.items())
            listed = self._objects.put(_FILES.dump_json(files), media_type="application/json")
            self._announce(_write_address(listed))
            self._forget(self._saved[name].ref for name in changed & self._saved.keys()
                         if _is_working_state(name))  # fmt: skip
            if self._list is not None and self._list != listed:
                self._objects.delete(self._list)
            self._list = listed
        self._saved = now
        self._due = time.monotonic() + max(self._every, _SHARE * (time.monotonic() - began))

    def _kept(self, path: Path) -> _Kept:
        """A file as an object; what has not been written to since is not read again."""
        found = path.stat()
        stamp = (found.st_size, found.st_mtime_ns)
        known = self._saved.get(path.relative_to(self._folder).as_posix())
        return known if known and known.stamp == stamp else _Kept(stamp, self._objects.put(path))

    def _forget(self, superseded: Iterable[ObjectRef]) -> None:
        for ref in superseded:
            self._objects.delete(ref)


def _is_working_state(name: str) -> bool:
    """Whether a draft's file never becomes part of an artifact, whose objects must not be deleted."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _write_address(ref: ObjectRef) -> str:
    return f"{ref.uri}#{urlencode({'sha256': ref.sha256, 'size': ref.size})}"


def _read_address(address: str) -> ObjectRef:
    uri, said = urldefrag(address)
    facts = parse_qs(said, strict_parsing=True)
    return ObjectRef(
        uri=uri,
        sha256=facts["sha256"][0],
        size=int(facts["size"][0]),
        media_type="application/json",
    )
