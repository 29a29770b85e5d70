"""Only what the configured provider signed for this installation, and only while it is valid."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from interpretops_platform.security.principal import Principal, Role, Scope, UnauthenticatedError
from interpretops_platform.security.tokens import (
    OidcSettings,
    ProviderUnavailableError,
    TokenVerifier,
)
from pydantic import ValidationError

ISSUER = "https://id.test/realms/lab"
TENANT = UUID(int=7)
NOW = 1_700_000_000.0

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PRIVATE = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
_CODECS = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def jwk(key: Any, algorithm: str = "RS256", kid: str | None = "k1", **more: Any) -> dict[str, Any]:
    public = _CODECS[algorithm].to_jwk(key.public_key(), as_dict=True)
    named = {} if kid is None else {"kid": kid}
    return {**public, "use": "sig", **named, **more}


class Provider:
    """An identity provider whose documents can be changed, and which counts its visitors."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys: Any = list(keys)
        self.about: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": "https://id.test/keys"}
        self.status = 200
        self.fetches = 0
        self.release: asyncio.Event | None = None

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/elsewhere":
            return httpx.Response(200, json=self.about)
        if request.url.path.endswith("/.well-known/openid-configuration"):
            moved = {"location": "https://id.test/elsewhere"} if self.status == 302 else {}
            return httpx.Response(self.status, json=self.about, headers=moved)
        assert str(request.url) == "https://id.test/keys"
        self.fetches += 1
        if self.release is not None:
            await self.release.wait()
        status = 200 if self.status == 302 else self.status
        return httpx.Response(status, json={"keys": self.keys})


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def provider() -> Provider:
    return Provider(jwk(RSA_KEY))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def verifier(provider: Provider, clock: Clock, **settings: Any) -> TokenVerifier:
    return TokenVerifier(
        OidcSettings(issuer=ISSUER, audience="interpretops", **settings),
        httpx.AsyncClient(transport=httpx.MockTransport(provider.answer), follow_redirects=True),
        wall_clock=clock,
        monotonic_clock=clock,
    )


def claims(**changes: Any) -> dict[str, Any]:
    made = {
        "iss": ISSUER,
        "aud": "interpretops",
        "sub": "ada",
        "tenant_id": str(TENANT),
        "roles": ["operator"],
        "iat": int(NOW),
        "exp": int(NOW) + 300,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def signed(
    key: Any = RSA_KEY,
    algorithm: str = "RS256",
    headers: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    return jwt.encode(
        claims(**changes), key, algorithm, headers={"kid": "k1"} if headers is None else headers
    )


def encoded(value: Any) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


async def refused(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        await verifier.verify(token)
    return str(caught.value)


async def test_a_good_token_names_its_user(provider: Provider, clock: Clock) -> None:
    found = await verifier(provider, clock).verify(signed())
    assert found == Principal.of(TENANT, "oidc:ada", [Role.OPERATOR])


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_each_allowed_signature_works(clock: Clock, algorithm: str) -> None:
    provider = Provider(jwk(PRIVATE[algorithm], algorithm))
    token = signed(PRIVATE[algorithm], algorithm)
    assert (await verifier(provider, clock).verify(token)).subject == "oidc:ada"
    others = {"RS256", "ES256", "EdDSA"} - {algorithm}
    await refused(verifier(provider, clock, algorithms=others), token)


async def test_unsigned_tokens_are_refused(provider: Provider, clock: Clock) -> None:
    for name in ("none", "None", "NONE", "nOnE", ""):
        head = encoded({"alg": name, "typ": "JWT", "kid": "k1"})
        for signature in ("", signed().rpartition(".")[2]):
            await refused(verifier(provider, clock), f"{head}.{encoded(claims())}.{signature}")


async def test_a_public_key_is_no_shared_secret(provider: Provider, clock: Clock) -> None:
    """The classic confusion: HS256 with the public key's text as the secret."""
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name, secret in (("HS256", pem), ("HS256", pem.strip()), ("HS256", b""), ("HS512", pem)):
        text = f"{encoded({'alg': name, 'typ': 'JWT', 'kid': 'k1'})}.{encoded(claims())}"
        digest = hashlib.sha256 if name == "HS256" else hashlib.sha512
        mac = hmac.new(secret, text.encode(), digest).digest()
        await refused(verifier(provider, clock), f"{text}.{encoded(mac)}")


async def test_symmetric_keys_that_a_provider_publishes_are_not_used(clock: Clock) -> None:
    secret = b"s" * 32
    shared = {"kty": "oct", "kid": "k1", "k": encoded(secret), "alg": "HS256"}
    provider = Provider(shared, jwk(EC_KEY, "ES256", "k2"))
    await refused(verifier(provider, clock), signed(secret, "HS256"))
    with pytest.raises(ValidationError):
        OidcSettings(issuer=ISSUER, audience="a", algorithms={"HS256"})


async def test_a_key_serves_its_own_algorithm_only(clock: Clock) -> None:
    provider = Provider(jwk(EC_KEY, "ES256", "k1"))
    await refused(verifier(provider, clock), signed())
    lying = Provider(jwk(RSA_KEY, alg="ES256"), jwk(EC_KEY, "ES256", "k2", alg="RS256"))
    await refused(verifier(lying, clock), signed())
    other_family = Provider(jwk(RSA_KEY, alg="PS256"))
    await refused(verifier(other_family, clock), signed())


async def test_weak_and_encryption_keys_are_not_used(clock: Clock) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = signed(weak)
    await refused(verifier(Provider(jwk(weak)), clock), token)
    await refused(verifier(Provider(jwk(RSA_KEY, use="enc")), clock), signed())
    await refused(verifier(Provider(jwk(RSA_KEY, key_ops=["encrypt"])), clock), signed())


async def test_keys_in_the_token_itself_are_ignored(provider: Provider, clock: Clock) -> None:
    own = jwk(OTHER_RSA_KEY)
    for extra in ({"jwk": own}, {"jku": "https://evil.test/keys"}, {"x5u": "https://evil.test"}):
        await refused(
            verifier(provider, clock), signed(OTHER_RSA_KEY, headers={"kid": "k1", **extra})
        )


async def test_a_token_with_any_part_changed_is_refused(provider: Provider, clock: Clock) -> None:
    head, body, signature = signed().split(".")
    checker = verifier(provider, clock)
    admin = encoded(claims(roles=["admin"]))
    flipped = bytearray(base64.urlsafe_b64decode(signature + "=="))
    flipped[0] ^= 1
    for token in (
        f"{head}.{admin}.{signature}",
        f"{head}.{body}.{encoded(bytes(flipped))}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{encoded({'alg': 'RS256', 'kid': 'k1', 'x': 1})}.{body}.{signature}",
        "",
        ".",
        "..",
        "a.b.c",
        "é.é.é",
        "\ud800",
        signed(padding="A" * 20_000),
    ):
        await refused(checker, token)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": ["RS256"]},
        {"alg": None},
        {"kid": 5},
        {"kid": ["k1"]},
        {"crit": ["exp"]},
        {"typ": "logout+jwt"},
        {"typ": "dpop+jwt"},
        {"b64": False, "crit": ["b64"]},
    ],
)
async def test_odd_headers_are_refused(
    provider: Provider, clock: Clock, header: dict[str, Any]
) -> None:
    # Signed properly, so that nothing but the header can be the reason.
    text = f"{encoded({'alg': 'RS256', 'kid': 'k1', **header})}.{encoded(claims())}"
    signature = _CODECS["RS256"](jwt.algorithms.RSAAlgorithm.SHA256).sign(text.encode(), RSA_KEY)
    await refused(verifier(provider, clock), f"{text}.{encoded(signature)}")


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+jwt"])
async def test_access_tokens_may_say_what_they_are(
    provider: Provider, clock: Clock, kind: str
) -> None:
    await verifier(provider, clock).verify(signed(headers={"kid": "k1", "typ": kind}))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://id.test/realms/other"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "another-service"},
        {"aud": ["another-service"]},
        {"aud": None},
        {"aud": []},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"exp": 10**400},
        {"nbf": int(NOW) + 31},
        {"nbf": "soon"},
        {"iat": int(NOW) + 31},
        {"exp": int(NOW) - 30},
    ],
)
async def test_claims_that_do_not_fit_are_refused(
    provider: Provider, clock: Clock, change: dict[str, Any]
) -> None:
    payload = json.dumps(claims(**change)).encode()
    token = jwt.PyJWS().encode(payload, RSA_KEY, "RS256", headers={"kid": "k1"})
    await refused(verifier(provider, clock, leeway_seconds=30), token)


async def test_one_of_several_audiences_is_enough(provider: Provider, clock: Clock) -> None:
    await verifier(provider, clock).verify(signed(aud=["x", "interpretops"]))


async def test_the_leeway_is_as_configured_and_no_more(provider: Provider, clock: Clock) -> None:
    checker, token = verifier(provider, clock, leeway_seconds=20), signed(nbf=int(NOW) + 20)
    await checker.verify(token)
    clock.time = NOW + 300 + 19.9
    await checker.verify(token)
    clock.time = NOW + 300 + 20
    assert "expired" in await refused(checker, token)
    clock.time = NOW - 0.1
    assert "not valid yet" in await refused(checker, token)


async def test_claims_are_read_as_configured(provider: Provider, clock: Clock) -> None:
    checker = verifier(
        provider,
        clock,
        tenant_claim="https://lab.test/org",
        subject_claim="email",
        roles_claim="realm_access.roles",
        scopes_claim="scope",
        role_names={"iop-approvers": Role.APPROVER, "iop-all": Role.VIEWER},
        tenants={"acme": TENANT},
    )
    token = signed(
        email="ada@lab.test",
        tenant_id=None,
        roles=None,
        realm_access={"roles": ["iop-approvers", "offline_access", "admin", 3]},
        scope="openid profile policies:approve keys:write",
        **{"https://lab.test/org": "acme"},
    )
    found = await checker.verify(token)
    assert found.roles == {Role.APPROVER}
    assert found.scopes == {Scope.POLICIES_APPROVE}
    assert (found.tenant_id, found.subject) == (TENANT, "oidc:ada@lab.test")


async def test_a_configured_scope_claim_that_is_absent_leaves_nothing(
    provider: Provider, clock: Clock
) -> None:
    checker = verifier(provider, clock, scopes_claim="scope")
    assert (await checker.verify(signed(roles=["admin"]))).scopes == frozenset()


async def test_a_user_without_a_role_is_known_and_may_do_nothing(
    provider: Provider, clock: Clock
) -> None:
    for roles in (None, [], ["emperor"], {"admin": True}, 1):
        found = await verifier(provider, clock).verify(signed(roles=roles))
        assert found.scopes == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": None},
        {"tenant_id": "acme"},
        {"tenant_id": 7},
        {"tenant_id": [str(TENANT)]},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": "x" * 300},
    ],
)
async def test_a_token_without_tenant_or_user_is_refused(
    provider: Provider, clock: Clock, change: dict[str, Any]
) -> None:
    assert "claim" in await refused(verifier(provider, clock), signed(**change))


async def test_keys_are_fetched_once_and_again_when_they_are_old(
    provider: Provider, clock: Clock
) -> None:
    checker = verifier(provider, clock, jwks_ttl_seconds=100)
    for _ in range(5):
        await checker.verify(signed())
    assert provider.fetches == 1
    clock.time += 100
    await checker.verify(signed())
    assert provider.fetches == 2


async def test_a_new_key_works_at_once_and_a_withdrawn_one_dies(
    provider: Provider, clock: Clock
) -> None:
    checker = verifier(provider, clock, refresh_seconds=10)
    await checker.verify(signed())
    clock.time += 10
    provider.keys = [jwk(OTHER_RSA_KEY, kid="k2")]
    await checker.verify(signed(OTHER_RSA_KEY, headers={"kid": "k2"}))
    await refused(checker, signed())


async def test_unknown_key_names_do_not_hammer_the_provider(
    provider: Provider, clock: Clock
) -> None:
    checker = verifier(provider, clock, refresh_seconds=10)
    await checker.verify(signed())
    for second in range(25):
        clock.time = NOW + second
        await refused(checker, signed(OTHER_RSA_KEY, headers={"kid": f"random-{second}"}))
    assert provider.fetches == 3


async def test_many_callers_at_once_cause_one_fetch(provider: Provider, clock: Clock) -> None:
    checker = verifier(provider, clock)
    provider.release = asyncio.Event()
    waiting = [asyncio.create_task(checker.verify(signed())) for _ in range(20)]
    while provider.fetches == 0:
        await asyncio.sleep(0)
    provider.release.set()
    assert len(await asyncio.gather(*waiting)) == 20
    assert provider.fetches == 1


async def test_a_slow_provider_holds_up_one_caller_and_not_all(
    provider: Provider, clock: Clock
) -> None:
    checker = verifier(provider, clock, jwks_ttl_seconds=100)
    await checker.verify(signed(exp=int(NOW) + 900))
    clock.time += 100
    provider.release = asyncio.Event()
    slow = asyncio.create_task(checker.verify(signed()))
    while provider.fetches == 1:
        await asyncio.sleep(0)
    assert (await checker.verify(signed())).subject == "oidc:ada"
    assert not slow.done()
    provider.release.set()
    await slow


async def test_an_outage_is_survived_on_old_keys_but_not_for_ever(
    provider: Provider, clock: Clock
) -> None:
    checker = verifier(provider, clock, jwks_ttl_seconds=100, jwks_stale_seconds=1000)
    token = signed(exp=int(NOW) + 5000)
    await checker.verify(token)
    provider.status = 500
    clock.time = NOW + 1099
    await checker.verify(token)
    clock.time = NOW + 1100
    with pytest.raises(ProviderUnavailableError):
        await checker.verify(token)
    provider.status = 200
    clock.time = NOW + 1120
    await checker.verify(token)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda provider: setattr(provider, "status", 503),
        lambda provider: setattr(provider, "status", 302),
        lambda provider: setattr(provider, "keys", "none"),
        lambda provider: setattr(provider, "keys", ["x" * 2_000_000]),
        lambda provider: provider.about.update(issuer="https://evil.test"),
        lambda provider: provider.about.update(jwks_uri="http://id.test/keys"),
        lambda provider: provider.about.update(jwks_uri="file:///etc/passwd"),
        lambda provider: provider.about.update(jwks_uri=None),
    ],
)
async def test_a_provider_that_cannot_be_believed_is_an_outage_and_not_a_bad_token(
    provider: Provider, clock: Clock, break_it: Any
) -> None:
    break_it(provider)
    checker = verifier(provider, clock)
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError):
            await checker.verify(signed())


async def test_odd_keys_do_not_hide_the_good_one(clock: Clock) -> None:
    odd = [None, {}, {"kty": "RSA"}, {"kty": "EC", "crv": "x"}, {"kty": "RSA", "alg": []}]
    provider = Provider(*odd, jwk(RSA_KEY))  # type: ignore[arg-type]
    await verifier(provider, clock).verify(signed())


async def test_without_a_key_name_there_must_be_only_one_key(clock: Clock) -> None:
    token = signed(headers={})
    await verifier(Provider(jwk(RSA_KEY, kid=None)), clock).verify(token)
    await refused(verifier(Provider(jwk(RSA_KEY), jwk(OTHER_RSA_KEY, kid="k2")), clock), token)


@pytest.mark.parametrize(
    "issuer",
    [
        "http://id.test",
        "id.test",
        "ftp://id.test",
        "https://",
        "https://user:pw@id.test",
        "http://127.0.0.1.evil.test",
    ],
)
def test_an_issuer_is_reached_safely(issuer: str) -> None:
    with pytest.raises(ValidationError):
        OidcSettings(issuer=issuer, audience="a")
    OidcSettings(issuer="http://127.0.0.1:8080/realm", audience="a")
