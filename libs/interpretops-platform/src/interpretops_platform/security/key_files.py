"""Files of secret keys: 32 random bytes a line, in base64, the newest first."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from typing import TYPE_CHECKING

from interpretops_platform.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32
_OTHERS = 0o007
_WRITE_BY_GROUP = 0o020


def read_keys(path: Path, what: str) -> list[bytes]:
    """The keys in a file.

    Its group may read it, for that is how orchestrators mount secrets; everybody else may not.

    Args:
        path: The file.
        what: What its keys are, in the plural, such as `peppers`; for messages.

    Raises:
        SettingsError: When there is no such file, too many may use it, or a line is no base64.
    """
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & _OTHERS:
                raise SettingsError(
                    f"everybody on this machine may read {path}", fix=f"chmod o-rwx {path}"
                )
            if mode & _WRITE_BY_GROUP:
                raise SettingsError(f"not only its owner may write {path}", fix=f"chmod g-w {path}")
            return [base64.b64decode(line, validate=True) for line in file.read().split()]
    except (OSError, UnicodeDecodeError, binascii.Error):
        raise SettingsError(
            f"the {what} {path} cannot be read",
            fix=f"write {KEY_BYTES} random bytes there in base64, readable by this user only",
        ) from None


def create_key_file(path: Path) -> bytes:
    """Write a new file with one random key, which only its owner may read, and return the key.

    Raises:
        FileExistsError: When there is such a file; without its content much cannot be read any more.
    """
    key = secrets.token_bytes(KEY_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(key) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def require_key_sizes(keys: list[bytes], what: str) -> None:
    """Go on only if there is a key and each has the right size.

    Args:
        keys: The keys.
        what: What one of them is, in the singular with its article, such as `a pepper`.

    Raises:
        SettingsError: When there is none, or one has another size.
    """
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise SettingsError(
            f"{what} is not {KEY_BYTES} bytes long", fix="make one with: openssl rand -base64 32"
        )
