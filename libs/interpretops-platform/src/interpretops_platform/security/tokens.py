"""Bearer tokens of an OpenID Connect provider: JWTs, verified against its published keys.

OpenID Connect Discovery 1.0; RFC 7517 (JWK), 7519 (JWT), 8725 (best current practices), 9068 (access
tokens).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pydantic import BaseModel, ConfigDict, Field, model_validator

from interpretops_platform.security.principal import Principal, Role, Scope, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Algorithm = Literal["RS256", "ES256", "EdDSA"]

_MAX_TOKEN = 16 * 1024
_MAX_DOCUMENT = 1024 * 1024
_FETCH_SECONDS = 15
_MIN_RSA_BITS = 2048
# Others, such as logout tokens and DPoP proofs, are signed by the same keys for another purpose.
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})


class ProviderUnavailableError(Exception):
    """The identity provider gives no keys, so nobody can be told from anybody; answered with 503."""


class OidcSettings(BaseModel):
    """Which provider is believed, and how its claims are read.

    Attributes:
        issuer: Its address, exactly as the `iss` claim has it. `https`, or `http` on this machine.
        audience: What the `aud` claim must contain: the name of this installation there.
        algorithms: Signatures that are accepted. Nothing symmetric can be added.
        leeway_seconds: How far the provider's clock may be off.
        jwks_ttl_seconds: Keys older than this are fetched anew, so a withdrawn key dies by then.
        jwks_stale_seconds: Keys may get this old while the provider cannot be reached.
        refresh_seconds: The least time between two fetches, whatever callers send.
        tenant_claim: Holds the tenant; a dot steps into an object where no claim has the whole name.
        subject_claim: Holds the stable name of the user.
        roles_claim: Holds roles, as a list or as words in a text.
        scopes_claim: Holds scopes that narrow the roles; without it the roles decide alone.
        tenants: From the provider's names of tenants to ours; other values must be our ids.
        role_names: From the provider's names of roles to ours; if empty, ours are expected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    audience: Annotated[str, Field(min_length=1)]
    algorithms: frozenset[Algorithm] = Field(
        default=frozenset({"RS256", "ES256", "EdDSA"}), min_length=1
    )
    leeway_seconds: float = Field(default=30, ge=0, le=300)
    jwks_ttl_seconds: float = Field(default=600, gt=0, le=86400)
    jwks_stale_seconds: float = Field(default=86400, ge=0, le=7 * 86400)
    refresh_seconds: float = Field(default=10, ge=1, le=600)
    tenant_claim: str = "tenant_id"
    subject_claim: str = "sub"
    roles_claim: str = "roles"
    scopes_claim: str | None = None
    tenants: dict[str, UUID] = Field(default_factory=dict)
    role_names: dict[str, Role] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _issuer_is_safe(self) -> Self:
        _require_safe(self.issuer, plain=True)
        return self


class TokenVerifier:
    """Turns bearer tokens into principals.

    Args:
        settings: Which provider is believed.
        client: Fetches its documents; it must not be one that callers direct.
        wall_clock: Seconds since the epoch, for the tokens' times.
        monotonic_clock: Seconds, for the age of the keys.
    """

    def __init__(
        self,
        settings: OidcSettings,
        client: httpx.AsyncClient,
        *,
        wall_clock: Callable[[], float] = time.time,
        monotonic_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._keys = _ProviderKeys(settings, client, monotonic_clock)
        self._now = wall_clock

    async def verify(self, token: str) -> Principal:
        """Who presents this token.

        Raises:
            UnauthenticatedError: When it is malformed, not signed by the provider for this
                installation, out of its time, or names no tenant or user.
            ProviderUnavailableError: When the provider's keys cannot be had.
        """
        if len(token) > _MAX_TOKEN:
            raise _invalid()
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, UnicodeError):
            raise _invalid() from None
        algorithm, kid = header.get("alg"), header.get("kid")
        # Before anything else: what the token says of itself is never a reason to use a key.
        if not isinstance(algorithm, str) or algorithm not in self._settings.algorithms:
            raise _invalid()
        if not isinstance(kid, str | None) or "crit" in header:
            raise _invalid()
        if str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise _invalid()
        key = await self._keys.find(kid, algorithm)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                # The times are checked below, by our clock.
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError:
            raise _invalid() from None
        self._check_times(claims)
        return self._principal(claims)

    def _check_times(self, claims: dict[str, Any]) -> None:
        now, leeway = self._now(), self._settings.leeway_seconds
        if now >= _seconds(claims["exp"]) + leeway:
            raise UnauthenticatedError("the token has expired", fix="log in again")
        for name in ("nbf", "iat"):
            if name in claims and _seconds(claims[name]) > now + leeway:
                raise UnauthenticatedError(
                    "the token is not valid yet", fix="compare the clocks of provider and server"
                )

    def _principal(self, claims: dict[str, Any]) -> Principal:
        settings = self._settings
        subject = _claim(claims, settings.subject_claim)
        if not isinstance(subject, str) or not subject:
            raise _lacks(settings.subject_claim, "a user")
        roles = []
        for word in _words(_claim(claims, settings.roles_claim)):
            if settings.role_names:
                role = settings.role_names.get(word)
            else:
                role = Role(word) if word in set(Role) else None
            if role is not None:
                roles.append(role)
        narrowed_to = None
        if settings.scopes_claim is not None:
            words = _words(_claim(claims, settings.scopes_claim))
            narrowed_to = [Scope(word) for word in words if word in set(Scope)]
        try:
            return Principal.of(
                self._tenant(claims), f"oidc:{subject}", roles, narrowed_to=narrowed_to
            )
        except ValueError:
            raise _lacks(settings.subject_claim, "a user by a printable name") from None

    def _tenant(self, claims: dict[str, Any]) -> UUID:
        name = self._settings.tenant_claim
        value = _claim(claims, name)
        if not isinstance(value, str):
            raise _lacks(name, "a tenant")
        if value in self._settings.tenants:
            return self._settings.tenants[value]
        try:
            return UUID(value)
        except ValueError:
            raise _lacks(name, "a tenant that is known here") from None


class _ProviderKeys:
    """The provider's public keys, fetched when they are old or a token names one that is missing."""

    def __init__(
        self, settings: OidcSettings, client: httpx.AsyncClient, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = -math.inf
        self._tried_at = -math.inf
        self._lock = asyncio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        key = self._pick(kid, algorithm)
        # While one caller fetches, the others go on with the key at hand.
        if self._age() >= self._settings.jwks_ttl_seconds and not (key and self._lock.locked()):
            await self._refresh()
            key = self._pick(kid, algorithm)
        if key is None:
            # The provider may have begun to use a new key.
            await self._refresh()
            key = self._pick(kid, algorithm)
        if self._age() >= self._settings.jwks_ttl_seconds + self._settings.jwks_stale_seconds:
            raise ProviderUnavailableError(f"the keys of {self._settings.issuer} cannot be fetched")
        if key is None:
            raise _invalid()
        return key

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _pick(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm]
        if kid is None:
            # Without a name there must be no choice.
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.key_id == kid), None)

    async def _refresh(self) -> None:
        async with self._lock:
            # Also the answer for those who waited at the lock while another one fetched.
            if self._clock() - self._tried_at < self._settings.refresh_seconds:
                return
            self._tried_at = self._clock()
            try:
                async with asyncio.timeout(_FETCH_SECONDS):
                    keys = await self._fetch()
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError):
                return  # `find` decides for how long the keys at hand will do
            self._keys = keys
            self._fetched_at = self._clock()

    async def _fetch(self) -> list[jwt.PyJWK]:
        issuer = self._settings.issuer
        about = await self._document(issuer.rstrip("/") + "/.well-known/openid-configuration")
        address = about.get("jwks_uri")
        if about.get("issuer") != issuer or not isinstance(address, str):
            raise ValueError("the discovery document is another issuer's")
        _require_safe(address, plain=issuer.startswith("http://"))
        published = (await self._document(address)).get("keys")
        if not isinstance(published, list):
            raise ValueError("the key set holds no list of keys")
        return list(_usable(published, self._settings.algorithms))

    async def _document(self, address: str) -> dict[str, Any]:
        content = bytearray()
        request = self._client.stream("GET", address, follow_redirects=False)
        async with request as response:
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"the provider answers {response.status_code}")
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MAX_DOCUMENT:
                    raise ValueError("the provider's document is too large")
        document = json.loads(content)
        if not isinstance(document, dict):
            raise ValueError("the provider's document is no object")
        return document


def _usable(published: list[Any], algorithms: Iterable[str]) -> Iterable[jwt.PyJWK]:
    for item in published:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        operations = item.get("key_ops", ["verify"])
        if not isinstance(operations, list) or "verify" not in operations:
            continue
        try:
            key = jwt.PyJWK(item)
        except (jwt.PyJWTError, TypeError, ValueError):
            continue  # one odd key must not hide the others
        if key.algorithm_name in algorithms and _fits(key.key, key.algorithm_name):
            yield key


def _fits(key: object, algorithm: str) -> bool:
    """Whether this is a public key of the algorithm's kind; a JWK may claim otherwise."""
    match algorithm:
        case "RS256":
            return isinstance(key, RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
        case "ES256":
            return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
        case _:
            return isinstance(key, Ed25519PublicKey)


def _require_safe(address: str, *, plain: bool) -> None:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        raise ValueError("this is not an address") from None
    if url.scheme == "https" and url.host and not url.userinfo:
        return
    if not (plain and url.scheme == "http" and _is_loopback(url.host)):
        raise ValueError("a provider's address must begin with https://")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _claim(claims: dict[str, Any], name: str) -> Any:
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid()
    try:
        seconds = float(value)
    except OverflowError:
        raise _invalid() from None
    if not math.isfinite(seconds):
        raise _invalid()
    return seconds


def _invalid() -> UnauthenticatedError:
    return UnauthenticatedError(
        "the token is not valid here", fix="send one that the configured provider issued for this"
    )


def _lacks(claim: str, what: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        f"the token does not name {what}", fix=f"have the provider set the claim {claim}"
    )
