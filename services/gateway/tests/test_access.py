"""Who may do what: every route of the application is tried, so that none can be forgotten."""

import re
import time
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from interpretops_gateway.app import api_routes, create_app
from interpretops_platform.database.session import tenant_session
from interpretops_platform.edge_settings import EdgeSettings
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.security.principal import Role, Scope
from interpretops_platform.security.tokens import TokenVerifier
from interpretops_platform.settings import OidcSettings, Settings

from services.gateway.tests.conftest import serving
from services.gateway.tests.folders import CIRCUIT, DICTIONARY, SITE

ROUTES = [
    (method, route) for route in api_routes(create_app(Settings())) for method in route.methods
]
GUARDED = [(method, route) for method, route in ROUTES if not route.access.public]
EXAMPLES = {
    "job_id": "job_01J9Z3W8Q5C2M7N4R6T8V0X1Y3",
    "artifact_id": CIRCUIT,
    "dictionary_id": DICTIONARY,
    "site": SITE,
    "feature": "47",
    "path": "circuit.json",
    "prefix": "abcdefgh2345",
    "model": "smollm2-135m-instruct",
    "name": "jailbreak-v1",
    "version": "1",
    "alarm_id": "al_01J9Z3W8Q5C2M7N4R6T8V0X1Y3",
}
BODIES = {
    "/alarms/{alarm_id}/acknowledge": {},
    "/policies/{name}/diff": None,
    "/keys/{prefix}/rotate": {},
    "/risk-cards/{artifact_id}/samples/reveal": {"numbers": [0]},
    "/names/{name}": {"artifact": CIRCUIT},
    "/circuit/{artifact_id}/annotations": {"supernodes": [], "pinned": []},
    "/dictionaries/{dictionary_id}/features/{site}/{feature}/label": {"label": "locks"},
}


def path_of(route, **known):
    path = re.sub(r":path}", "}", route.path)
    filled = path.format(**{**EXAMPLES, **known})
    queries = {"/policies/{name}/diff": "?from=1&to=1", "/drift/{name}": "?version=1"}
    return filled + queries.get(route.path, "")


async def ask(edge, method, route, headers, **known):
    body = BODIES.get(route.path)
    return await edge.request(method, path_of(route, **known), headers=headers, json=body)


def test_only_these_routes_ask_nobody():
    public = {route.path for _, route in ROUTES if route.access.public}
    assert public == {"/healthz", "/readyz", "/metrics"}


def test_a_route_that_does_not_say_who_may_use_it_cannot_be_made():
    from interpretops_gateway.routing import router

    with pytest.raises(ValueError, match="who may use it"):
        router().get("/open")(lambda: None)


async def test_without_a_key_there_is_no_way_in(edge):
    for method, route in GUARDED:
        for headers in (
            {},
            {"authorization": "Basic YTpi"},
            {"authorization": "Bearer "},
            {"authorization": "Bearer iop_abcdefgh2345_" + "a" * 43},
            {"authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
        ):
            answer = await ask(edge, method, route, headers)
            assert answer.status_code == 401, (method, route.path, headers)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            require_problem(route, answer)


@pytest.mark.parametrize("why", ["expired", "revoked"])
async def test_a_key_that_has_ended_is_no_way_in(edge, admin, issue, tenant_id, why):
    if why == "expired":
        before = datetime.now(UTC) - timedelta(hours=1)
        headers = await issue(tenant_id, now=before, lifetime=timedelta(minutes=1))
    else:
        headers = await issue(tenant_id)
        prefix = headers["authorization"].split("_")[1]
        await edge.delete(f"/keys/{prefix}", headers=admin)
    for method, route in GUARDED:
        answer = await ask(edge, method, route, headers)
        assert answer.status_code == 401, (method, route.path)
        assert why in answer.text


async def test_without_the_scope_there_is_no_way_in(edge, issue, tenant_id):
    scopes = {route.access.scopes for _, route in GUARDED if route.access.scopes}
    keys = {
        needed: await issue(tenant_id, Role.ADMIN, scopes=set(Scope) - set(needed))
        for needed in scopes
    }
    for method, route in GUARDED:
        if needed := route.access.scopes:
            answer = await ask(edge, method, route, keys[needed])
            assert answer.status_code == 403, (method, route.path)
            assert str(needed[0]) in answer.text
            require_problem(route, answer)


async def test_what_is_another_tenants_is_not_found(
    edge, admin, stranger, database, tenant_id, circuit, dictionary
):
    async with tenant_session(database, tenant_id) as session:
        job = (await submit(session, tenant_id, JobRequest(kind="trace"))).job.id
    await edge.post("/policies", json={"yaml": "meta: {id: jailbreak-v1}"}, headers=admin)
    await edge.put("/names/jailbreak-v1", json={"artifact": circuit}, headers=admin)
    keys = (await edge.get("/keys", headers=admin)).json()["items"]
    known = {"job_id": job, "prefix": keys[0]["prefix"]}
    # Models are the installation's, and the same for every tenant.
    tried = [
        (method, route)
        for method, route in GUARDED
        if "{" in route.path and not route.path.startswith("/v1/models/")
    ]
    for method, route in tried:
        answer = await ask(edge, method, route, stranger, **known)
        assert answer.status_code == 404, (method, route.path, answer.text)
        require_problem(route, answer)
    # Its own tenant finds each of them, so that it was the tenant that made the difference.
    of_other_kinds = ("/reports", "/risk-cards", "/jobs/{job_id}/events")
    for method, route in tried:
        if method == "GET" and not route.path.startswith(of_other_kinds):
            answer = await ask(edge, method, route, admin, **known)
            assert answer.status_code == 200, (route.path, answer.text)


def require_problem(route, answer):
    if route.path.startswith("/v1/"):
        assert set(answer.json()["error"]) >= {"message", "type", "code"}
        return
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"].startswith("urn:interpretops:problem:")
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_an_expired_key_dies_on_time_though_it_was_just_used(edge, issue, tenant_id):
    now = datetime.now(UTC)
    headers = await issue(tenant_id, now=now, lifetime=timedelta(seconds=1))
    assert (await edge.get("/whoami", headers=headers)).status_code == 200
    while datetime.now(UTC) < now + timedelta(seconds=1):
        time.sleep(0.05)
    assert (await edge.get("/whoami", headers=headers)).status_code == 401


async def test_a_revoked_key_dies_at_once_where_it_was_revoked(edge, admin, issue, tenant_id):
    headers = await issue(tenant_id, name="doomed")
    assert (await edge.get("/whoami", headers=headers)).status_code == 200
    prefix = headers["authorization"].split("_")[1]
    assert (await edge.delete(f"/keys/{prefix}", headers=admin)).json()["revoked_at"]
    answer = await edge.get("/whoami", headers=headers)
    assert answer.status_code == 401
    assert "revoked" in answer.json()["detail"]


async def test_a_key_that_another_process_revoked_dies_within_the_settings_time(
    whole_settings, admin, issue, tenant_id
):
    short = EdgeSettings(key_cache_seconds=0.2)
    headers = await issue(tenant_id, name="doomed")
    prefix = headers["authorization"].split("_")[1]
    settings = whole_settings.model_copy(update={"edge": short})
    async with serving(settings) as here, serving(settings) as there:
        assert (await here.get("/whoami", headers=headers)).status_code == 200
        await there.delete(f"/keys/{prefix}", headers=admin)
        time.sleep(0.25)
        assert (await here.get("/whoami", headers=headers)).status_code == 401


async def test_two_authorization_headers_are_none(edge, admin):
    twice = [*admin.items(), *admin.items()]
    assert (await edge.get("/whoami", headers=twice)).status_code == 401


async def test_a_caller_learns_who_it_is(edge, issue, tenant_id):
    headers = await issue(tenant_id, Role.VIEWER, name="eyes")
    caller = (await edge.get("/whoami", headers=headers)).json()
    assert caller["tenant_id"] == str(tenant_id)
    assert caller["tenant"].startswith("ours-")
    assert (caller["subject"], caller["roles"]) == ("key:eyes", ["viewer"])
    assert caller["scopes"] == ["artifacts:read", "jobs:read", "policies:read"]


async def test_keys_are_issued_used_rotated_and_revoked(edge, admin):
    body = {"name": "ci", "roles": ["operator"], "scopes": ["jobs:read"], "lifetime_seconds": 60}
    issued = await edge.post("/keys", json=body, headers=admin)
    assert issued.status_code == 201
    made = issued.json()
    headers = {"authorization": f"Bearer {made['key']}"}
    assert (await edge.get("/jobs", headers=headers)).status_code == 200
    assert (await edge.get("/artifacts", headers=headers)).status_code == 403
    rotated = await edge.post(
        f"/keys/{made['prefix']}/rotate", json={"grace_seconds": 0}, headers=admin
    )
    successor = rotated.json()
    assert successor["scopes"] == ["jobs:read"]
    assert (await edge.get("/jobs", headers=headers)).status_code == 401
    headers = {"authorization": f"Bearer {successor['key']}"}
    assert (await edge.get("/jobs", headers=headers)).status_code == 200
    await edge.delete(f"/keys/{successor['prefix']}", headers=admin)
    listed = (await edge.get("/keys?active=true", headers=admin)).json()["items"]
    assert [key["name"] for key in listed] == ["admin"]
    assert all("hash" not in key and "key" not in key for key in listed)
    log = (await edge.get("/audit", headers=admin)).json()["items"]
    assert [entry["action"] for entry in log] == ["key.revoke", "key.rotate", "key.issue"]
    assert made["key"] not in str(log)


async def test_nobody_gives_away_more_than_they_have(edge, issue, tenant_id):
    narrow = await issue(tenant_id, scopes=[Scope.KEYS_WRITE, Scope.JOBS_READ])
    body = {"name": "more", "roles": ["operator"]}
    assert (await edge.post("/keys", json=body, headers=narrow)).status_code == 403


async def test_the_audit_chain_is_verified_and_pinned(edge, admin):
    await edge.post("/keys", json={"name": "a", "roles": ["viewer"]}, headers=admin)
    verdict = (await edge.get("/audit/verify", headers=admin)).json()
    assert verdict["intact"] is True
    pinned = {"seq": verdict["seq"], "hash": verdict["hash"]}
    assert (await edge.get("/audit/verify", params=pinned, headers=admin)).json()["intact"]
    forged = {"seq": verdict["seq"], "hash": "0" * 64}
    found = (await edge.get("/audit/verify", params=forged, headers=admin)).json()
    assert (found["intact"], found["seq"]) == (False, verdict["seq"])
    half = await edge.get("/audit/verify", params={"seq": 1}, headers=admin)
    assert (half.status_code, half.json()["field"]) == (422, "hash")


class Provider:
    """An identity provider behind an address that only the edge's own client reaches."""

    issuer = "https://idp.example"

    def __init__(self):
        self.key = generate_private_key(SECP256R1())
        self.kid = "1"

    def answer(self, request):
        if request.url.path.endswith("openid-configuration"):
            return httpx.Response(
                200, json={"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
            )
        key = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return httpx.Response(200, json={"keys": [{**key, "kid": self.kid, "alg": "ES256"}]})

    def token(self, tenant_id, **claims):
        now = int(time.time())
        said = {
            "iss": self.issuer,
            "aud": "interpretops",
            "exp": now + 60,
            "sub": "ada",
            "tenant_id": str(tenant_id),
            "roles": ["viewer"],
            **claims,
        }
        return jwt.encode(said, self.key, "ES256", headers={"kid": self.kid})


async def test_tokens_of_the_identity_provider_are_heeded_unless_tampered_with(
    whole_settings, tenant_id
):
    provider = Provider()
    oidc = OidcSettings(issuer=provider.issuer, audience="interpretops")
    async with (
        serving(whole_settings) as edge,
        httpx.AsyncClient(transport=httpx.MockTransport(provider.answer)) as client,
    ):
        edge.app.state.edge.authenticator._tokens = TokenVerifier(oidc, client)

        async def status(token):
            headers = {"authorization": f"Bearer {token}"}
            return (await edge.get("/whoami", headers=headers)).status_code

        good = provider.token(tenant_id)
        answer = await edge.get("/whoami", headers={"authorization": f"Bearer {good}"})
        assert answer.json()["subject"] == "oidc:ada"
        head, body, signature = good.split(".")
        assert await status(f"{head}.{body}.{signature[::-1]}") == 401
        assert (
            await status(f"{head}.{provider.token(uuid.uuid4()).split('.')[1]}.{signature}") == 401
        )
        assert await status(provider.token(tenant_id, exp=int(time.time()) - 120)) == 401
        assert await status(provider.token(tenant_id, aud="others")) == 401
        answer = await edge.get("/keys", headers={"authorization": f"Bearer {good}"})
        assert answer.status_code == 403


async def test_a_use_of_a_key_is_noted(edge, admin):
    await edge.get("/whoami", headers=admin)
    await edge.app.state.edge.authenticator.close()
    (key,) = (await edge.get("/keys", headers=admin)).json()["items"]
    assert key["last_used_at"] is not None
