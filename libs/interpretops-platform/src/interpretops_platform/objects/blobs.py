"""What an object store needs from a folder or a bucket: bytes under a key, and no more."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from interpretops_platform.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta
    from pathlib import Path


class BlobNotFoundError(KeyError):
    """There is nothing under this key."""


class StoreUnavailableError(PlatformError):
    """The store refused or did not answer; the same call may work later."""

    transient: ClassVar[bool] = True

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the object store failed: {what}", fix="try again; if it persists, check its address"
        )


class BlobEntry(NamedTuple):
    """A blob that is there.

    Attributes:
        key: Its key.
        written_at: When it was written last, by the clock of the store, with its zone.
        size: Its bytes, as they are kept.
    """

    key: str
    written_at: datetime
    size: int


class Blobs(Protocol):
    """A flat space of immutable blobs. A blob is there in full or not at all."""

    def uri(self, key: str) -> str:
        """The address of a key."""
        ...

    def write(self, key: str, source: Path) -> None:
        """Copy a file to a key; writing what is there already only makes it young again.

        Raises:
            StoreUnavailableError: When it cannot be written now.
        """
        ...

    def read(self, key: str) -> AbstractContextManager[IO[bytes]]:
        """Open a blob for reading.

        Raises:
            BlobNotFoundError: When there is none.
            StoreUnavailableError: When it cannot be read now.
        """
        ...

    def written_at(self, key: str) -> datetime | None:
        """When a blob was written last, with its zone; none where there is no blob.

        Raises:
            StoreUnavailableError: When that cannot be told now.
        """
        ...

    def entries(self, prefix: str) -> Iterator[BlobEntry]:
        """What is there under keys that begin so, leftovers of writes that were cut off included.

        Args:
            prefix: Ends in a slash.

        Raises:
            StoreUnavailableError: When that cannot be told now.
        """
        ...

    def ever(self, prefix: str) -> Iterator[str]:
        """Keys that begin so and were ever written, deleted since or not, as far as the store knows.

        Args:
            prefix: Ends in a slash.

        Raises:
            StoreUnavailableError: When that cannot be told now.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove a blob; removing what is not there is no error.

        Raises:
            StoreUnavailableError: When it cannot be removed now.
        """
        ...

    def presign(self, key: str, expires: timedelta) -> str | None:
        """A URL that anyone can read the blob from for a while, where the store has such."""
        ...
