"""Secrets of the installation without which a stolen table of API keys verifies nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

from interpretops_platform.security.key_files import create_key_file, read_keys, require_key_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PEPPER_ID_BYTES = 8


class Peppers:
    """Secrets of 32 bytes: the first one makes hashes, all of them check hashes.

    To rotate, put a new secret in front, wait until the keys in use were hashed anew
    (`keys.rehashed`), and remove the old one.

    Args:
        peppers: Newest first.

    Raises:
        SettingsError: When there is none, or one has another size.
    """

    def __init__(self, peppers: Sequence[bytes]) -> None:
        require_key_sizes(list(peppers), "a pepper of API keys")
        self._peppers = {_pepper_id(pepper): pepper for pepper in peppers}

    @property
    def current(self) -> bytes:
        """Id of the pepper that makes hashes, 8 bytes; it gives nothing of the pepper away."""
        return next(iter(self._peppers))

    def get(self, pepper_id: bytes) -> bytes | None:
        """A pepper by its id, or none when it was removed."""
        return self._peppers.get(pepper_id)

    def __getitem__(self, pepper_id: bytes) -> bytes:
        return self._peppers[pepper_id]

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The peppers in a file, one a line in base64, newest first.

        Raises:
            SettingsError: When there is no such file, everybody may read it, or a line is wrong.
        """
        return cls(read_keys(path, "peppers"))

    @classmethod
    def create(cls, path: Path) -> Self:
        """Write a new file with one random pepper, which only its owner may read.

        Raises:
            FileExistsError: When there is such a file; without its content no key works any more.
        """
        return cls([create_key_file(path)])


def _pepper_id(pepper: bytes) -> bytes:
    return hashlib.sha256(b"interpretops pepper" + pepper).digest()[:PEPPER_ID_BYTES]
