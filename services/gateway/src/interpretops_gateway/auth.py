"""Who calls: API keys of this installation, and tokens of its identity provider."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from interpretops_platform.security import keys
from interpretops_platform.security.key_store import find_key, mark_used
from interpretops_platform.security.keys import ApiToken
from interpretops_platform.security.principal import UnauthenticatedError

if TYPE_CHECKING:
    from interpretops_platform.database.engine import Database
    from interpretops_platform.security.keys import KeyRecord
    from interpretops_platform.security.peppers import Peppers
    from interpretops_platform.security.principal import Principal
    from interpretops_platform.security.tokens import TokenVerifier

logger = logging.getLogger(__name__)

_SCHEME = "bearer "
_KEY = "iop_"
_MAX_CACHED = 10_000
_MARK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Verified:
    record: KeyRecord
    principal: Principal
    until: float
    """By the monotonic clock."""


class Authenticator:
    """Turns the `Authorization` header of a request into a principal.

    A verified key is remembered for a few seconds, by a digest of it and in this process alone, so
    that a request costs no query for it. A key that is revoked dies within that time; one that
    expires dies on time.

    Args:
        database: Where keys are.
        peppers: Secrets that keys are hashed with; without them no key is accepted.
        tokens: Checks tokens of the identity provider, where one is configured.
        cache_seconds: How long a verified key is remembered.
    """

    def __init__(
        self,
        database: Database,
        *,
        peppers: Peppers | None,
        tokens: TokenVerifier | None,
        cache_seconds: float,
    ) -> None:
        self._database = database
        self._peppers = peppers
        self._tokens = tokens
        self._cache_seconds = cache_seconds
        self._verified: dict[bytes, _Verified] = {}
        self._marked: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def authenticate(self, header: str | None) -> Principal:
        """Who sends this header.

        Args:
            header: `Bearer` and a key or token.

        Raises:
            UnauthenticatedError: When it is missing or proves nobody.
            ProviderUnavailableError: When the identity provider's keys cannot be had.
        """
        if header is None or header[: len(_SCHEME)].lower() != _SCHEME:
            raise UnauthenticatedError(
                "the request does not say who makes it",
                fix="send the header Authorization: Bearer, followed by an API key or a token",
            )
        credential = header[len(_SCHEME) :].strip()
        if credential.startswith(_KEY) and self._peppers is not None:
            return await self._by_key(credential, self._peppers)
        if self._tokens is not None and not credential.startswith(_KEY):
            return await self._tokens.verify(credential)
        raise UnauthenticatedError(
            "this kind of credential is not accepted here",
            fix="send an API key of this installation, as iop_…",
        )

    def forget(self, prefix: str) -> None:
        """Look a key up again at its next use, because it has changed."""
        for digest, held in list(self._verified.items()):
            if held.record.prefix == prefix:
                del self._verified[digest]

    async def close(self) -> None:
        """Finish what was noted."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _by_key(self, text: str, peppers: Peppers) -> Principal:
        digest = hashlib.sha256(text.encode()).digest()
        held = self._verified.get(digest)
        now = datetime.now(UTC)
        if held is not None and time.monotonic() < held.until:
            ends = held.record.expires_at
            if ends is None or now < ends:
                self._note_use(held.record)
                return held.principal
        token = ApiToken.parse(text)
        record = await find_key(self._database, token.prefix)
        principal = keys.verify(token, record, peppers=peppers, now=now)
        assert record is not None  # or it would not have verified
        if len(self._verified) >= _MAX_CACHED:
            self._verified.clear()
        self._verified[digest] = _Verified(
            record, principal, time.monotonic() + self._cache_seconds
        )
        self._note_use(record)
        return principal

    def _note_use(self, record: KeyRecord) -> None:
        now = time.monotonic()
        if now - self._marked.get(record.prefix, -_MARK_SECONDS) < _MARK_SECONDS:
            return
        self._marked[record.prefix] = now
        task = asyncio.get_running_loop().create_task(self._mark(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _mark(self, record: KeyRecord) -> None:
        try:
            await mark_used(self._database, record)
        except Exception as error:  # a caller must not suffer from what is only noted
            self._marked.pop(record.prefix, None)
            logger.warning("the last use of a key was not noted", exc_info=error)
