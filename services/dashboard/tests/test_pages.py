"""Pages and the policy they are served under; the export that is checked in."""

import base64
import gzip
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from interpretops_dashboard.export import EXPORT, Export
from interpretops_platform.errors import SettingsError
from starlette.testclient import TestClient

from services.dashboard.tests.conftest import PAGE

HERE = Path(__file__).parents[1]
BUDGET = 280_000
EDITOR_BUDGET = 420_000
"""Bytes of scripts and styles, compressed, that a page may need before it is shown."""


@pytest.fixture
def client(pages):
    return TestClient(Export(pages))


def hash_of(script):
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"


def test_a_page_runs_its_own_scripts_and_no_others(client):
    policy = client.get("/").headers["content-security-policy"]
    scripts = re.search("script-src ([^;]*)", policy)[1].split()
    assert scripts == ["'self'", hash_of(b"one()"), hash_of(b'two("</p>")')]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_each_answer_has_a_nonce_of_its_own(client):
    answers = [client.get("/") for _ in range(2)]
    found = [re.search('content="([^"]+)"', answer.text)[1] for answer in answers]
    assert found[0] != found[1]
    for nonce, answer in zip(found, answers, strict=True):
        assert f"style-src 'self' 'nonce-{nonce}'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.text.replace(nonce, "__CSP_NONCE__") == PAGE.decode()


def test_addresses_have_no_endings(client):
    assert "jobs()" in client.get("/jobs?id=job_1").text
    assert "jobs()" in client.get("/jobs/").text
    missing = client.get("/nowhere")
    assert (missing.status_code, "nothing()" in missing.text) == (404, True)
    assert client.get("/../../../../etc/passwd").status_code == 404
    assert client.post("/").status_code == 405


def test_what_is_named_by_its_content_is_kept_for_ever_and_compressed(client):
    answer = client.get("/_next/static/a.js")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    # A worker's policy is its own: it loads the rest of itself, from here alone.
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert answer.text == "let a = 1;" * 100
    again = client.get("/_next/static/a.js", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = client.get("/_next/static/a.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


def test_without_pages_it_says_how_to_get_them(tmp_path):
    with pytest.raises(SettingsError, match="make dashboard"):
        Export(tmp_path / "nothing")


def test_the_pages_that_are_checked_in_are_of_these_sources():
    check = [sys.executable, str(HERE / "build.py"), "--check"]
    assert subprocess.run(check, check=False).returncode == 0


def test_the_contract_that_is_checked_in_is_the_edges():
    check = [sys.executable, str(HERE / "generate.py"), "--check"]
    assert subprocess.run(check, check=False).returncode == 0


def test_every_page_that_is_checked_in_keeps_to_its_policy():
    """No style in markup, no script of another origin, no address of another site that is fetched."""
    pages = sorted(EXPORT.rglob("*.html"))
    assert len(pages) > 3
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<[a-z][^>]* style=", text), page
        assert not re.search(r"<style|<base|<iframe| on[a-z]+=\"", text), page
        fetched = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', text)
        assert all(address.startswith("/") for address in fetched), page
        assert Export().find("/" + page.relative_to(EXPORT).as_posix()).scripts


def test_no_page_is_heavier_than_its_budget():
    """What is loaded later, such as the reader of PDFs, does not count; old browsers' extras neither."""
    for page in sorted(EXPORT.rglob("*.html")):
        text = page.read_text()
        named = set(
            re.findall(r'<(?:script|link)[^>]*(?:src|href)="(/_next/[^"]+\.(?:js|css))"', text)
        )
        named -= set(re.findall(r'<script src="([^"]+)" noModule', text))
        assert named, page
        weight = sum(len(gzip.compress((EXPORT / name[1:]).read_bytes())) for name in named)
        edits = page.parent.name == "policies"
        assert weight <= (EDITOR_BUDGET if edits else BUDGET), (page, weight)
