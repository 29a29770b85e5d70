"""Who a call is for, vouched by a short-lived token that only holders of our keys can make.

A service does not believe plain headers: whoever reaches its port could name any tenant.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Self
from uuid import UUID

import jwt

from interpretops_platform.security.key_files import read_keys, require_key_sizes
from interpretops_platform.security.principal import Principal, Role, Scope, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

IDENTITY_HEADER = "x-interpretops-identity"

_ALGORITHM = "HS256"
_TYPE = "iop-identity+jwt"
_ISSUER = "interpretops"
_AUDIENCE = "interpretops-rpc"
_LEEWAY_SECONDS = 10  # clocks of two machines
_MAX_TOKEN = 4096


class IdentityTokens:
    """Makes and checks the tokens in calls.

    Args:
        keys: Secrets of 32 bytes shared by edge and services, newest first; the first one signs, all
            of them check. To rotate, give every process both in the old order, then in the new one,
            then the new one alone.
        lifetime_seconds: How long a token made here is good for.
        clock: Seconds since the epoch.

    Raises:
        SettingsError: When there is no key, or one has another size.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        lifetime_seconds: int = 60,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require_key_sizes(list(keys), "an identity key")
        self._keys = {_key_id(key): key for key in keys}
        self._lifetime = lifetime_seconds
        self._clock = clock

    @classmethod
    def from_file(cls, path: Path, *, lifetime_seconds: int = 60) -> Self:
        """With the keys in a file, one a line in base64, newest first.

        Raises:
            SettingsError: When there is no such file, everybody may read it, or a line is wrong.
        """
        return cls(read_keys(path, "identity keys"), lifetime_seconds=lifetime_seconds)

    def sign(self, principal: Principal) -> str:
        """A token that says: this call is for that caller."""
        now = int(self._clock())
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "iat": now,
            "exp": now + self._lifetime,
            "tid": str(principal.tenant_id),
            "sub": principal.subject,
            "roles": sorted(principal.roles),
            "scopes": sorted(principal.scopes),
        }
        name = next(iter(self._keys))
        return jwt.encode(claims, self._keys[name], _ALGORITHM, headers={"kid": name, "typ": _TYPE})

    def verify(self, token: str) -> Principal:
        """The caller that a token names.

        Raises:
            UnauthenticatedError: When it is malformed, signed by none of the keys, for another
                purpose, or out of its time.
        """
        if len(token) > _MAX_TOKEN:
            raise _refused()
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(str(header.get("kid")))
            if header.get("typ") != _TYPE or "crit" in header or key is None:
                raise _refused()
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                # The times are checked below, by our clock.
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
            now = self._clock()
            if not claims["iat"] - _LEEWAY_SECONDS <= now < claims["exp"] + _LEEWAY_SECONDS:
                raise _refused()
            # A name that a newer edge knows and this service does not can only mean less.
            return Principal.of(
                UUID(claims["tid"]),
                claims["sub"],
                [Role(role) for role in claims["roles"] if role in set(Role)],
                narrowed_to=[Scope(scope) for scope in claims["scopes"] if scope in set(Scope)],
            )
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, AttributeError):
            raise _refused() from None


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"interpretops identity key" + key).hexdigest()[:16]


def _refused() -> UnauthenticatedError:
    return UnauthenticatedError(
        "the call does not prove for whom it is made", fix="call through the edge"
    )
