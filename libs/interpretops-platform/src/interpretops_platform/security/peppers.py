"""Secrets of the installation without which a stolen table of API keys verifies nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from typing import TYPE_CHECKING, Self

from interpretops_platform.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PEPPER_BYTES = 32
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
        if not peppers or any(len(pepper) != PEPPER_BYTES for pepper in peppers):
            raise SettingsError(
                f"a pepper of API keys is not {PEPPER_BYTES} bytes long",
                fix="make one with: openssl rand -base64 32",
            )
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
        try:
            with path.open(encoding="ascii") as file:
                # A group may read it: that is how orchestrators mount secrets.
                if os.fstat(file.fileno()).st_mode & 0o007:
                    raise SettingsError(
                        f"everybody on this machine may read {path}", fix=f"chmod o-rwx {path}"
                    )
                return cls([base64.b64decode(line, validate=True) for line in file.read().split()])
        except (OSError, UnicodeDecodeError, binascii.Error):
            raise SettingsError(
                f"the peppers {path} cannot be read",
                fix="write 32 random bytes there in base64, readable by this user only",
            ) from None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Write a new file with one random pepper, which only its owner may read.

        Raises:
            FileExistsError: When there is such a file; without its content no key works any more.
        """
        pepper = secrets.token_bytes(PEPPER_BYTES)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(pepper) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return cls([pepper])


def _pepper_id(pepper: bytes) -> bytes:
    return hashlib.sha256(b"interpretops pepper" + pepper).digest()[:PEPPER_ID_BYTES]
