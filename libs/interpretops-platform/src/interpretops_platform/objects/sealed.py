"""Envelope encryption: a data key per tenant, wrapped by a master key that never touches a database.

An object is sealed in chunks, so that neither side holds more than one in memory, by the STREAM
construction (Hoang, Reyhanitabar, Rogaway and Vizár 2015, as in Tink's AES-GCM-HKDF-Streaming): a key
per object, and nonces that count the chunks and mark the last one. Chunks that are changed,
reordered, cut off or moved to another object or tenant do not open.

    magic (8) · salt (32) · chunks of up to 1 MiB, each followed by its tag (16)

Deleting a tenant's wrapped data key makes all its objects unreadable, wherever copies are.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from typing import IO, TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from interpretops_platform.errors import PlatformError
from interpretops_platform.security.key_files import KEY_BYTES, read_keys, require_key_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

_MAGIC = b"IOPSEAL1"
_SALT_BYTES = 32
_CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16
_NONCE_BYTES = 12
_KEY_ID_BYTES = 8


class SealBrokenError(PlatformError):
    """Sealed content does not open: it was changed, cut off, or belongs to somebody else."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} does not open with this key", fix="restore it from a backup")


class MasterKey(Protocol):
    """Wraps the data keys of tenants. A key management service can stand behind it."""

    def wrap(self, data_key: bytes, tenant_id: UUID) -> bytes:
        """Encrypt a data key for keeping; it opens for this tenant only."""
        ...

    def unwrap(self, wrapped: bytes, tenant_id: UUID) -> bytes:
        """The data key again.

        Raises:
            SealBrokenError: When it was not wrapped for this tenant by a key that is known here.
        """
        ...


class FileMasterKey:
    """Master keys in a file, one a line in base64; the first wraps, all unwrap.

    To change the key, put a new line first, wrap every tenant's key anew, and drop the old line.

    Args:
        keys: Keys of 32 bytes.

    Raises:
        SettingsError: When there is none, or one has another size.
    """

    def __init__(self, keys: list[bytes]) -> None:
        require_key_sizes(keys, "a master key")
        self._first = _key_id(keys[0])
        self._keys = {_key_id(key): AESGCM(key) for key in keys}

    @classmethod
    def from_file(cls, path: Path) -> FileMasterKey:
        """Read the keys.

        Raises:
            SettingsError: When the file is missing, everybody may read it, or a line is wrong.
        """
        return cls(read_keys(path, "master keys"))

    def wrap(self, data_key: bytes, tenant_id: UUID) -> bytes:
        """Encrypt a data key for keeping; it opens for this tenant only."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self._first].encrypt(nonce, data_key, tenant_id.bytes)
        return self._first + nonce + sealed

    def unwrap(self, wrapped: bytes, tenant_id: UUID) -> bytes:
        """The data key again.

        Raises:
            SealBrokenError: When it was not wrapped for this tenant by a key in the file.
        """
        key_id, rest = wrapped[:_KEY_ID_BYTES], wrapped[_KEY_ID_BYTES:]
        try:
            cipher = self._keys[key_id]
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], tenant_id.bytes)
        except (KeyError, InvalidTag, ValueError):
            raise SealBrokenError("the data key of the tenant") from None


class Seal:
    """Seals and opens the objects of one tenant.

    Args:
        data_key: 32 bytes, unwrapped.
        tenant_id: The tenant; objects of another one do not open even with the same key.
    """

    def __init__(self, data_key: bytes, tenant_id: UUID) -> None:
        self._data_key = data_key
        self._tenant = tenant_id.bytes
        self._name_key = _derive(data_key, b"", b"interpretops object name")

    def name(self, sha256: str) -> str:
        """A name that says nothing about the content to who has no key, yet finds it again."""
        return hmac.new(self._name_key, bytes.fromhex(sha256), hashlib.sha256).hexdigest()

    def seal(self, source: IO[bytes], target: IO[bytes], *, sha256: str) -> None:
        """Encrypt a stream.

        Args:
            source: Plain content.
            target: Receives the sealed content.
            sha256: Digest of the plain content; the seal is bound to it.
        """
        salt = os.urandom(_SALT_BYTES)
        cipher, bound = self._cipher(salt, sha256)
        target.write(_MAGIC + salt)
        for index, chunk, last in _chunks(source, _CHUNK_BYTES):
            target.write(cipher.encrypt(_nonce(index, last=last), chunk, bound))

    def open(self, source: IO[bytes], *, sha256: str) -> Iterator[bytes]:
        """Decrypt a stream; no byte is given out before its chunk is authenticated.

        Args:
            source: Sealed content.
            sha256: Digest of the plain content that is expected.

        Raises:
            SealBrokenError: At the first chunk that is not what was sealed.
        """
        header = _read_exactly(source, len(_MAGIC) + _SALT_BYTES)
        if not header.startswith(_MAGIC) or len(header) != len(_MAGIC) + _SALT_BYTES:
            raise SealBrokenError(f"object {sha256}")
        cipher, bound = self._cipher(header[len(_MAGIC) :], sha256)
        for index, chunk, last in _chunks(source, _CHUNK_BYTES + _TAG_BYTES):
            try:
                yield cipher.decrypt(_nonce(index, last=last), chunk, bound)
            except (InvalidTag, ValueError):
                raise SealBrokenError(f"object {sha256}") from None

    def _cipher(self, salt: bytes, sha256: str) -> tuple[AESGCM, bytes]:
        bound = _MAGIC + self._tenant + bytes.fromhex(sha256)
        return AESGCM(_derive(self._data_key, salt, b"interpretops object" + bound)), bound


def new_data_key() -> bytes:
    """A key for a new tenant."""
    return os.urandom(KEY_BYTES)


def _derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=purpose).derive(key)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"interpretops master key" + key).digest()[:_KEY_ID_BYTES]


def _nonce(index: int, *, last: bool) -> bytes:
    # The key is used for one object only, so that counting from zero never repeats a nonce.
    return bytes(7) + struct.pack(">IB", index, last)


def _chunks(source: IO[bytes], size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Chunks with their number and whether each is the last; an empty stream is one empty chunk."""
    chunk = _read_exactly(source, size)
    index = 0
    while True:
        following = _read_exactly(source, size) if len(chunk) == size else b""
        yield index, chunk, not following
        if not following:
            return
        chunk, index = following, index + 1


def _read_exactly(source: IO[bytes], size: int) -> bytes:
    """As many bytes as asked for, unless the stream ends; a socket gives fewer at a time."""
    parts = []
    while size:
        part = source.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
