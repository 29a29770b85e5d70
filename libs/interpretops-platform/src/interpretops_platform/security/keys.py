"""API keys, `iop_<prefix>_<secret>`: the prefix finds the row, the secret proves the caller.

The secret is 256 random bits, so a fast keyed hash protects it at rest: without the pepper a stolen
table verifies nothing, and guessing is hopeless with it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from interpretops_platform.errors import PlatformError
from interpretops_platform.security.peppers import PEPPER_ID_BYTES
from interpretops_platform.security.principal import (
    ForbiddenError,
    Principal,
    Role,
    Scope,
    UnauthenticatedError,
    require_grantable,
    scopes_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta
    from uuid import UUID

    from interpretops_platform.security.peppers import Peppers

_PREFIX_ALPHABET = string.ascii_lowercase + "234567"
_PREFIX_LENGTH = 12
_SECRET_ALPHABET = string.ascii_letters + string.digits
_SECRET_LENGTH = 43  # 62**43 > 2**256
_TOKEN = re.compile(
    rf"iop_(?P<prefix>[a-z2-7]{{{_PREFIX_LENGTH}}})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}", re.ASCII
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}", re.ASCII)
_PURPOSE = b"interpretops api key 1"


class KeyRequestError(PlatformError):
    """A key cannot be issued or rotated as asked."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A key as a caller presents it; it does not show itself in logs.

    Attributes:
        prefix: Finds the row; not secret.
        text: The whole key.
    """

    prefix: str
    text: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> ApiToken:
        """Read a presented key.

        Raises:
            UnauthenticatedError: When it does not look like one.
        """
        match = _TOKEN.fullmatch(text)
        if match is None:
            raise _invalid()
        return cls(prefix=match["prefix"], text=text)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key.

    Attributes:
        tenant_id: Whose key it is.
        prefix: Unique among all keys.
        hash: Id of the pepper (8 bytes) and HMAC-SHA256 of the key (32 bytes).
        name: Who or what uses the key. It survives rotation and is the key's subject.
        roles: Names of roles.
        scopes: Names of scopes; only those count that the roles allow.
        expires_at: From then on it is refused.
        revoked_at: Set when it was withdrawn.
    """

    tenant_id: UUID
    prefix: str
    hash: bytes = field(repr=False)
    name: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def subject(self) -> str:
        """How the key's user is called in the audit log and as an author."""
        return f"key:{self.name}"


class IssuedKey(NamedTuple):
    """A new key: the token is shown once and never stored, the record is stored."""

    token: ApiToken
    record: KeyRecord


class RotatedKey(NamedTuple):
    """A key's successor, and the old record with its last day."""

    successor: IssuedKey
    retiring: KeyRecord


def issue(
    *,
    tenant_id: UUID,
    name: str,
    roles: Iterable[Role],
    peppers: Peppers,
    now: datetime,
    scopes: Iterable[Scope] | None = None,
    lifetime: timedelta | None = None,
    issuer: Principal | None = None,
) -> IssuedKey:
    """Make a key.

    Args:
        tenant_id: Whose key it is.
        name: Who or what will use it; 1 to 100 letters, digits, spaces and ` ._@-`.
        roles: At least one role.
        peppers: Secrets of the installation.
        now: The time, with its zone.
        scopes: Narrows the roles; none stands for everything they allow today.
        lifetime: After this the key is refused; none stands for ever.
        issuer: Who asks for it; none is the installation itself, which makes the first key.

    Raises:
        ForbiddenError: When the issuer may not give this away.
        KeyRequestError: When the name, the roles, the scopes or the lifetime make no sense.
    """
    held = tuple(sorted(set(roles), key=list(Role).index))
    allowed = scopes_of(held)
    wanted = allowed if scopes is None else frozenset(scopes)
    if not held or not wanted:
        raise KeyRequestError(
            "a key without a role or scope can do nothing", fix="give it at least one of each"
        )
    if not wanted <= allowed:
        raise KeyRequestError(
            f"the roles {', '.join(held)} do not allow {', '.join(sorted(wanted - allowed))}",
            fix="leave those scopes out, or choose a higher role",
        )
    if not _NAME.fullmatch(name):
        raise KeyRequestError(
            "the name of a key is empty, too long or holds unusual characters",
            fix="use 1 to 100 letters, digits, spaces and . _ @ -",
        )
    if issuer is not None:
        _require_issuer(issuer, tenant_id, wanted)
    token = _new_token()
    record = KeyRecord(
        tenant_id=tenant_id,
        prefix=token.prefix,
        hash=_hash(token, tenant_id, peppers, peppers.current),
        name=name,
        roles=tuple(role.value for role in held),
        scopes=tuple(sorted(scope.value for scope in wanted)),
        expires_at=_expiry(now, lifetime),
    )
    return IssuedKey(token, record)


def verify(
    token: ApiToken, record: KeyRecord | None, *, peppers: Peppers, now: datetime
) -> Principal:
    """Who presents this key.

    Args:
        token: What was presented.
        record: The row with the token's prefix, or none when there is no such row.
        peppers: Secrets of the installation.
        now: The time, with its zone.

    Raises:
        UnauthenticatedError: When the key is unknown, wrong, expired or revoked. Only a caller that
            holds the right secret learns which of the last two it is.
    """
    if record is None:
        # As much work as for a row that exists, so that the time does not tell prefixes apart.
        hmac.compare_digest(_mac(token, None, peppers[peppers.current]), bytes(32))
        raise _invalid()
    pepper = peppers.get(record.hash[:PEPPER_ID_BYTES])
    mac = _mac(token, record.tenant_id, pepper or peppers[peppers.current])
    if (
        not hmac.compare_digest(mac, record.hash[PEPPER_ID_BYTES:])
        or pepper is None
        or record.prefix != token.prefix
    ):
        raise _invalid()
    if record.revoked_at is not None:
        raise UnauthenticatedError("this API key was revoked", fix="ask an admin for a new one")
    if record.expires_at is not None and now >= record.expires_at:
        raise UnauthenticatedError("this API key has expired", fix="ask an admin for a new one")
    return Principal.of(
        record.tenant_id, record.subject, _roles(record), narrowed_to=_scopes(record)
    )


def rehashed(token: ApiToken, record: KeyRecord, peppers: Peppers) -> KeyRecord | None:
    """The record under the current pepper, to be stored when a verified key still has an older one.

    Returns:
        The new record, or none when the pepper is the current one.
    """
    if record.hash.startswith(peppers.current):
        return None
    return replace(record, hash=_hash(token, record.tenant_id, peppers, peppers.current))


def rotate(
    record: KeyRecord,
    *,
    peppers: Peppers,
    now: datetime,
    grace: timedelta,
    lifetime: timedelta | None = None,
    issuer: Principal | None = None,
) -> RotatedKey:
    """Replace a key by one with the same name and rights; for a while both work.

    Args:
        record: The key to replace.
        peppers: Secrets of the installation.
        now: The time, with its zone.
        grace: How long the old key goes on; an earlier expiry of it stands.
        lifetime: How long the new key lives; none stands for ever.
        issuer: Who asks for it and will see the new key; none is the installation itself.

    Raises:
        ForbiddenError: When the issuer may not have a key with these rights.
        KeyRequestError: When the old key no longer works, or a duration makes no sense.
    """
    if record.revoked_at is not None or (
        record.expires_at is not None and now >= record.expires_at
    ):
        raise KeyRequestError("this key no longer works", fix="issue a new one")
    if issuer is not None:
        _require_issuer(issuer, record.tenant_id, _scopes(record))
    if grace.total_seconds() < 0:
        raise KeyRequestError("the grace period is negative", fix="use 0 or more seconds")
    token = _new_token()
    successor = replace(
        record,
        prefix=token.prefix,
        hash=_hash(token, record.tenant_id, peppers, peppers.current),
        expires_at=_expiry(now, lifetime),
    )
    ends = now + grace
    if record.expires_at is not None:
        ends = min(ends, record.expires_at)
    return RotatedKey(IssuedKey(token, successor), replace(record, expires_at=ends))


def _require_issuer(issuer: Principal, tenant_id: UUID, scopes: Iterable[Scope]) -> None:
    require_grantable(issuer, scopes)
    if issuer.tenant_id != tenant_id:
        raise ForbiddenError(
            "a caller cannot have a key of another tenant", fix="use a key of that tenant"
        )


# A name that a newer version stored and this one does not know is left out, which can only mean less.
def _roles(record: KeyRecord) -> list[Role]:
    return [Role(role) for role in record.roles if role in set(Role)]


def _scopes(record: KeyRecord) -> list[Scope]:
    return [Scope(scope) for scope in record.scopes if scope in set(Scope)]


def _new_token() -> ApiToken:
    prefix = "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(_PREFIX_LENGTH))
    secret = "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(_SECRET_LENGTH))
    return ApiToken(prefix=prefix, text=f"iop_{prefix}_{secret}")


def _expiry(now: datetime, lifetime: timedelta | None) -> datetime | None:
    if lifetime is None:
        return None
    if lifetime.total_seconds() <= 0:
        raise KeyRequestError("the lifetime of a key is not positive", fix="use 1 or more seconds")
    return now + lifetime


def _hash(token: ApiToken, tenant_id: UUID, peppers: Peppers, pepper_id: bytes) -> bytes:
    return pepper_id + _mac(token, tenant_id, peppers[pepper_id])


def _mac(token: ApiToken, tenant_id: UUID | None, pepper: bytes) -> bytes:
    # With the tenant, a row that is moved to another tenant stops working.
    owner = bytes(16) if tenant_id is None else tenant_id.bytes
    return hmac.new(pepper, _PURPOSE + owner + token.text.encode(), hashlib.sha256).digest()


def _invalid() -> UnauthenticatedError:
    return UnauthenticatedError(
        "the API key is not valid", fix="send a key that this installation issued"
    )
