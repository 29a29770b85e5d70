"""Attacks on sealed objects: they come back whole and unchanged, to their tenant, or not at all."""

from __future__ import annotations

import hashlib
import io
import random
from uuid import UUID

import pytest
from interpretops_platform.objects import sealed
from interpretops_platform.objects.sealed import FileMasterKey, Seal, SealBrokenError

TENANT, OTHER = UUID(int=1), UUID(int=2)
SEAL = Seal(b"k" * 32, TENANT)
HEADER, CHUNK, TAG = 40, 256, 16


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that every bit and every length can be tried.
    monkeypatch.setattr(sealed, "_CHUNK_BYTES", CHUNK)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def close(content: bytes, seal: Seal = SEAL) -> bytes:
    target = io.BytesIO()
    seal.seal(io.BytesIO(content), target, sha256=digest(content))
    return target.getvalue()


def opened(data: bytes, content: bytes, seal: Seal = SEAL) -> bytes:
    return b"".join(seal.open(io.BytesIO(data), sha256=digest(content)))


def pieces(data: bytes) -> tuple[bytes, list[bytes]]:
    body, step = data[HEADER:], CHUNK + TAG
    return data[:HEADER], [body[at : at + step] for at in range(0, len(body), step)]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 5000])
def test_content_comes_back(size: int) -> None:
    content = random.Random(size).randbytes(size)
    assert opened(close(content), content) == content


def test_every_flipped_bit_is_noticed() -> None:
    content = bytes(range(200)) * 3
    data = close(content)
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1 << (position % 8)
        with pytest.raises(SealBrokenError):
            opened(bytes(broken), content)


def test_every_truncation_is_noticed_even_between_chunks() -> None:
    content = bytes(CHUNK * 3)
    data = close(content)
    for length in range(len(data)):
        with pytest.raises(SealBrokenError):
            opened(data[:length], content)


def test_chunks_cannot_be_dropped_swapped_repeated_or_appended() -> None:
    content = random.Random(0).randbytes(CHUNK * 4)
    header, (a, b, c, d) = pieces(close(content))
    _, (other, *_) = pieces(close(content))
    for order in (
        [b, a, c, d],
        [a, c, d],
        [b, c, d],
        [d],
        [a, a, b, c, d],
        [a, b, c, d, d],
        [a, b, d, c],
        [a, b, c, d, b"extra"],
        [other, b, c, d],
    ):
        with pytest.raises(SealBrokenError):
            opened(header + b"".join(order), content)
    assert opened(header + a + b + c + d, content) == content


def test_only_authentic_chunks_are_given_out_before_the_error() -> None:
    content = random.Random(0).randbytes(CHUNK * 3)
    header, (a, b, _) = pieces(close(content))
    stream = SEAL.open(io.BytesIO(header + a + b), sha256=digest(content))
    assert next(stream) == content[:CHUNK]
    with pytest.raises(SealBrokenError):
        next(stream)


def test_equal_chunks_and_equal_objects_do_not_look_equal() -> None:
    _, (one, two, *_) = pieces(close(bytes(CHUNK * 3)))
    _, (again, *_) = pieces(close(bytes(CHUNK * 3)))
    assert len({one, two, again}) == 3


def test_an_object_is_bound_to_its_content_and_its_tenant() -> None:
    content = b"one" * 100
    data = close(content)
    with pytest.raises(SealBrokenError):
        opened(data, b"another")
    # The same key under another tenant's name does not help, nor another key of the same tenant.
    for seal in (Seal(b"k" * 32, OTHER), Seal(b"x" * 32, TENANT)):
        with pytest.raises(SealBrokenError):
            opened(data, content, seal)


def test_a_changed_or_foreign_wrapped_key_is_refused() -> None:
    master = FileMasterKey([b"m" * 32])
    wrapped = master.wrap(b"k" * 32, TENANT)
    with pytest.raises(SealBrokenError):
        master.unwrap(wrapped, OTHER)
    for position in range(len(wrapped)):
        broken = bytearray(wrapped)
        broken[position] ^= 1
        with pytest.raises(SealBrokenError):
            master.unwrap(bytes(broken), TENANT)
        with pytest.raises(SealBrokenError):
            master.unwrap(wrapped[:position], TENANT)
