"""One spelling for a JSON value, so that equal values have equal digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from interpretops_platform.errors import PlatformError


class UnstorableError(PlatformError):
    """A value that JSON in PostgreSQL cannot hold."""

    def __init__(self) -> None:
        super().__init__(
            "the request holds a value that cannot be stored as JSON",
            fix="leave out NUL characters, lone surrogates, NaN and infinities",
        )


def canonical_json(value: Any) -> str:
    """The value with sorted keys and no spaces.

    Raises:
        UnstorableError: When PostgreSQL could not store it.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        text.encode()
    except (TypeError, ValueError, RecursionError):
        raise UnstorableError from None
    if r"\u0000" in text.replace(r"\\", ""):
        raise UnstorableError
    return text


def sha256_of(value: Any) -> str:
    """Digest of the canonical spelling, in hexadecimal.

    Raises:
        UnstorableError: When PostgreSQL could not store the value.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
