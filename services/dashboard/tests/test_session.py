"""Signing in with a key, what the cookie gives away, and what another site's page may do: nothing."""

import json
from datetime import timedelta

import pytest
from interpretops_dashboard import session as sessions
from interpretops_platform.dashboard_settings import DashboardSettings
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.principal import Role

from services.dashboard.tests.conftest import OURS, browsing


async def test_nobody_is_signed_in_at_first(browser):
    answer = await browser.get("/session")
    assert answer.json() == {"caller": None, "ends_at": None, "oidc": None}
    refused = await browser.get("/api/jobs")
    assert (refused.status_code, refused.json()["fix"]) == (401, "sign in")


async def test_a_key_signs_in_and_no_script_can_read_it(browser, issue):
    key = await issue(Role.VIEWER)
    answer = await browser.post("/session", json={"key": key})
    assert answer.json()["caller"]["subject"] == "key:ada"
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 1
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookies[0].split("; "))
    secret = key.split("_")[2]
    assert secret not in cookies[0] + answer.text
    caller = (await browser.get("/session")).json()["caller"]
    assert (caller["roles"], "jobs:read" in caller["scopes"]) == (["viewer"], True)
    assert (await browser.get("/api/jobs")).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("key", ["", "iop_abcdefgh2345_" + "a" * 43, "no key at all", "ключ", None])
async def test_a_key_that_is_none_signs_nobody_in(browser, key):
    answer = await browser.post("/session", json={"key": key})
    assert answer.status_code in (401, 422)
    assert answer.json()["detail"]
    assert "set-cookie" not in answer.headers


async def test_who_signs_out_is_out(signed_in):
    assert (await signed_in.delete("/session")).status_code == 204
    assert (await signed_in.get("/api/jobs")).status_code == 401


async def test_a_key_that_is_revoked_signs_out(signed_in):
    prefix = (await signed_in.get("/api/keys")).json()["items"][0]["prefix"]
    assert (await signed_in.delete(f"/api/keys/{prefix}")).status_code == 200
    assert (await signed_in.get("/session")).json()["caller"] is None
    assert not [cookie for cookie in signed_in.cookies.jar if cookie.value]


async def test_what_the_server_refuses_stays_refused(browser, issue):
    await browser.post("/session", json={"key": await issue(Role.VIEWER)})
    refused = await browser.get("/api/audit")
    assert refused.status_code == 403
    assert "audit:read" in refused.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-interpretops": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
async def test_a_page_of_another_site_changes_nothing(signed_in, headers):
    if headers == {"x-interpretops": ""}:
        del signed_in.headers["x-interpretops"]
        headers = {}
    for method, path in [("POST", "/api/keys"), ("DELETE", "/session"), ("POST", "/session")]:
        answer = await signed_in.request(method, path, headers=headers, json={})
        assert answer.status_code == 403
        assert "another site" in answer.json()["detail"]
    assert (await signed_in.get("/session", headers=OURS)).json()["caller"] is not None


async def test_our_own_page_may(signed_in):
    headers = {"origin": "http://dashboard:8090", "sec-fetch-site": "same-origin"}
    body = {"name": "ci", "roles": ["viewer"]}
    assert (await signed_in.post("/api/keys", json=body, headers=headers)).status_code == 201


async def test_a_cookie_is_of_no_use_to_another_installation(signed_in, edge_settings, edge, pages):
    other = edge_settings.model_copy(update={"dashboard": DashboardSettings(api=edge)})
    async with browsing(other, pages, cookies=signed_in.cookies) as stranger:
        assert (await stranger.get("/session")).json()["caller"] is None


async def test_copies_with_the_same_keys_share_sessions_and_keys_can_be_replaced(
    edge_settings, edge, pages, issue, tmp_path
):
    create_key_file(tmp_path / "old")
    create_key_file(tmp_path / "new")
    both = (tmp_path / "new").read_text() + (tmp_path / "old").read_text()
    (tmp_path / "new").write_text(both)
    cookies = None
    for name, expected in [("old", True), ("old", True), ("new", True)]:
        dashboard = DashboardSettings(api=edge, session_key_file=tmp_path / name)
        settings = edge_settings.model_copy(update={"dashboard": dashboard})
        async with browsing(settings, pages, cookies=cookies) as browser:
            if cookies is None:
                await browser.post("/session", json={"key": await issue()})
                cookies = browser.cookies
            assert ((await browser.get("/session")).json()["caller"] is not None) == expected


async def test_a_session_ends(signed_in, monkeypatch):
    now = sessions.time.time()
    later = now + timedelta(hours=13).total_seconds()
    monkeypatch.setattr(sessions.time, "time", lambda: later)
    assert (await signed_in.get("/session")).json()["caller"] is None


async def test_over_tls_cookies_are_for_this_host_alone(edge_settings, edge, pages, issue):
    dashboard = DashboardSettings(api=edge, public_url="https://interpretops.example")
    settings = edge_settings.model_copy(update={"dashboard": dashboard})
    async with browsing(settings, pages) as browser:
        answer = await browser.post("/session", json={"key": await issue()})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-interpretops-session.0=")
        assert "Secure" in cookie
        assert "strict-transport-security" in answer.headers


async def test_nothing_of_the_cookie_reaches_the_edge(signed_in):
    answer = await signed_in.get("/api/whoami", headers={"authorization": "Bearer iop_other"})
    assert answer.json()["subject"] == "key:ada"
    assert "strict-transport-security" not in answer.headers
    assert json.dumps(answer.json())
