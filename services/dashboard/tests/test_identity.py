"""Signing in through an identity provider: a real one, in a process of its own."""

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import pytest_asyncio
from interpretops_dashboard import identity
from interpretops_platform.dashboard_settings import DashboardSettings, OidcClientSettings
from interpretops_platform.errors import SettingsError
from interpretops_platform.security.tokens import OidcSettings
from interpretops_platform.settings import Settings

from services.dashboard.tests import provider
from services.dashboard.tests.conftest import browsing, create_app, create_edge, served


@pytest.fixture(scope="module")
def provider_address():
    """The address of a provider."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, str(Path(provider.__file__)), str(port)]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                httpx.get(f"{address}/jwks").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def issuer(provider_address, tenant_id):
    """The address of a provider whose people belong to our tenant."""
    httpx.post(f"{provider_address}/tenant", data={"id": str(tenant_id)}).raise_for_status()
    return provider_address


@pytest_asyncio.fixture
async def browser(edge_settings, pages, issuer):
    """A browser of a dashboard and an edge that believe the provider."""
    oidc = OidcSettings(issuer=issuer, audience=provider.AUDIENCE)
    security = edge_settings.security.model_copy(update={"oidc": oidc})
    settings = edge_settings.model_copy(update={"security": security})
    with served(create_edge(settings)) as edge:
        dashboard = DashboardSettings(
            api=edge,
            oidc=OidcClientSettings(client_id=provider.CLIENT, client_secret=provider.SECRET),
        )
        async with browsing(settings.model_copy(update={"dashboard": dashboard}), pages) as browser:
            yield browser


async def come_back(browser, name, back="/jobs?state=RUNNING"):
    """Go to the provider, say who one is, and follow its answer; gives where one is led."""
    begun = await browser.get("/session/oidc", params={"back": back})
    assert begun.status_code == 303
    asked = parse_qs(urlsplit(begun.headers["location"]).query)
    assert (asked["code_challenge_method"], asked["response_type"]) == (["S256"], ["code"])
    async with httpx.AsyncClient() as outside:
        answered = await outside.post(begun.headers["location"], data={"user": name})
    assert answered.status_code == 302, answered.text
    return begun, await browser.get(answered.headers["location"])


async def test_a_person_signs_in_and_is_led_back(browser):
    assert (await browser.get("/session")).json()["oidc"] == "Sign in with your organisation"
    begun, done = await come_back(browser, "ada")
    assert "SameSite=lax" in begun.headers["set-cookie"]
    assert (done.status_code, done.headers["location"]) == (303, "/jobs?state=RUNNING")
    kept = [c for c in done.headers.get_list("set-cookie") if "session" in c]
    assert all("HttpOnly" in cookie and "SameSite=strict" in cookie for cookie in kept)
    caller = (await browser.get("/session")).json()["caller"]
    assert (caller["subject"], caller["roles"]) == ("oidc:ada", ["admin"])
    assert (await browser.get("/api/audit")).status_code == 200


async def test_roles_are_those_of_the_provider(browser):
    await come_back(browser, "vera")
    assert (await browser.get("/api/jobs")).status_code == 200
    assert (await browser.get("/api/audit")).status_code == 403


async def test_whom_the_provider_or_the_edge_refuses_is_told_so(browser, issuer):
    _, done = await come_back(browser, "mallory")
    assert done.headers["location"] == "/sign-in?problem=refused"
    httpx.post(f"{issuer}/tenant", data={"id": "nowhere"}).raise_for_status()
    _, done = await come_back(browser, "ada")
    assert done.headers["location"] == "/sign-in?problem=refused"
    assert (await browser.get("/session")).json()["caller"] is None


async def test_who_has_no_role_may_do_nothing(browser):
    await come_back(browser, "nobody")
    assert (await browser.get("/session")).json()["caller"]["scopes"] == []
    assert (await browser.get("/api/jobs")).status_code == 403


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_nobody_is_led_to_another_site(browser, back):
    _, done = await come_back(browser, "ada", back)
    assert done.headers["location"] == "/"


async def test_an_answer_that_this_browser_did_not_ask_for_signs_nobody_in(browser):
    begun = await browser.get("/session/oidc")
    async with httpx.AsyncClient() as outside:
        answered = await outside.post(begun.headers["location"], data={"user": "ada"})
    answer = answered.headers["location"]
    state = parse_qs(urlsplit(answer).query)["state"][0]
    wrong = await browser.get(answer.replace(state, "x" * len(state)))
    assert wrong.headers["location"] == "/sign-in?problem=refused"
    # The attempt is over with that, and another browser has none.
    for _ in range(2):
        late = await browser.get(answer)
        assert late.headers["location"] == "/sign-in?problem=expired"
    assert (await browser.get("/session")).json()["caller"] is None


async def test_a_token_for_another_sign_in_is_refused(browser, monkeypatch):
    """The provider's answer is real, but its identity token bears another nonce."""
    tokens = iter(["a" * 43, "b" * 64, "c" * 43, "d" * 64])
    monkeypatch.setattr(identity.secrets, "token_urlsafe", lambda _: next(tokens))
    first = await browser.get("/session/oidc")
    url = first.headers["location"].replace("a" * 43, "z" * 43)
    async with httpx.AsyncClient() as outside:
        answered = await outside.post(url, data={"user": "ada"})
    done = await browser.get(answered.headers["location"])
    assert done.headers["location"] == "/sign-in?problem=refused"


async def test_tokens_are_refreshed_once_for_requests_in_parallel(browser, issuer, monkeypatch):
    await come_back(browser, "ada")
    # Each lasts a minute: at 31 seconds the dashboard asks for the next one.
    later = time.time() + 31
    monkeypatch.setattr(identity.time, "time", lambda: later)
    answers = await asyncio.gather(*(browser.get("/api/jobs") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    async with httpx.AsyncClient() as outside:
        assert (await outside.get(f"{issuer}/refreshed")).json() == 1
    assert (await browser.get("/session")).json()["caller"]["subject"] == "oidc:ada"


async def test_a_provider_that_is_away_is_said_to_be(edge_settings, pages, edge):
    oidc = OidcSettings(issuer="http://127.0.0.1:9", audience="interpretops")
    security = edge_settings.security.model_copy(update={"oidc": oidc})
    dashboard = DashboardSettings(api=edge, oidc=OidcClientSettings(client_id="dashboard"))
    settings = edge_settings.model_copy(update={"security": security, "dashboard": dashboard})
    async with browsing(settings, pages) as browser:
        answer = await browser.get("/session/oidc")
        assert answer.headers["location"] == "/sign-in?problem=provider"


async def test_without_a_provider_there_is_no_such_way(edge_settings, pages, edge):
    settings = edge_settings.model_copy(update={"dashboard": DashboardSettings(api=edge)})
    async with browsing(settings, pages) as browser:
        answer = await browser.get("/session/oidc")
        assert answer.headers["location"] == "/sign-in?problem=no-provider"
    both = DashboardSettings(oidc=OidcClientSettings(client_id="dashboard"))
    with pytest.raises(SettingsError, match=r"security\.oidc"):
        create_app(Settings(dashboard=both), pages=pages)
