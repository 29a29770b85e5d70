"""No secret that somebody logs by accident reaches a log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpretops_platform.telemetry.scrubbing import (
    _PATTERNS,
    _SUSPECT,
    REDACTED,
    scrub,
    scrubbed,
)

KEY = "iop_abcdefghijkl_" + "S3cr3t" * 7
JWT = "eyJhbGciOiJIUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJTM2NyM3QifQ.U2lnbmF0dXJlUzNjcjN0"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcS3cr3t/+=\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"key {KEY} was used", "key iop_[redacted] was used"),
        (f"token <{JWT}>", "token <[redacted]>"),
        ("Authorization: Bearer S3cr3t", "Authorization: [redacted]"),
        (
            "{'authorization': 'Basic S3cr3t==', 'accept': 'json'}",
            "{'authorization': [redacted], 'accept': 'json'}",
        ),
        (
            "[(b'authorization', b'Bearer S3cr3t'), (b'accept', b'*')]",
            "[(b'authorization', [redacted]), (b'accept', b'*')]",
        ),
        ("cookie: a=S3cr3t; b=S3cr3t", "cookie: [redacted]"),
        ("sent bearer S3cr3tS3cr3t= on", "sent bearer [redacted] on"),
        ("postgresql://owner:S3cr3t@db:5432/x", "postgresql://owner:[redacted]@db:5432/x"),
        ("postgresql://owner:S3@cr/3t@db/x", "postgresql://owner:[redacted]@db/x"),
        ("redis://:S3cr3t@h:6379/0", "redis://:[redacted]@h:6379/0"),
        ("host=db password=S3cr3t user=x", "host=db password=[redacted] user=x"),
        ('{"client_secret": "S3cr3t"}', '{"client_secret": [redacted]}'),
        ("INTERPRETOPS_DATABASE__APP_PASSWORD=S3cr3t", None),
        (f"read {PEM} from disk", "read [redacted] from disk"),
        ("-----BEGIN PRIVATE KEY-----\nMHcS3cr3t", "[redacted]"),
        ("https://s3/x?X-Amz-Signature=S3cr3t&n=1", "https://s3/x?X-Amz-Signature=[redacted]&n=1"),
    ],
)
def test_secrets_go_and_the_rest_stays(text, left):
    clean = scrub(text)
    assert "S3" not in clean
    assert REDACTED in clean
    if left is not None:
        assert clean == left
    assert scrub(clean) == clean


@pytest.mark.parametrize("pattern", [pattern for _, pattern, _ in _PATTERNS])
def test_whatever_a_pattern_matches_is_looked_at(pattern):
    @given(st.from_regex(pattern))
    def is_suspect(text):
        assert _SUSPECT.search(text), text

    is_suspect()


@pytest.mark.parametrize(
    "text",
    [
        "max_new_tokens=64 page_token=abc next_page_token=abc",
        "12 tokens: 3 of them special; the secret of steering is scale",
        "http://127.0.0.1:8000/v1/models answered 200",
        "connection to postgresql://db:5432/x failed",
        "policy jailbreak-v1 activated by oidc:248289761001",
    ],
)
def test_ordinary_lines_stay_whole(text):
    assert scrub(text) == text


def test_values_under_the_name_of_a_secret_go_whatever_they_are():
    clean = scrubbed(
        {
            "api_key": 17,
            "owner_dsn": "x",
            "Authorization": ["S3cr3t"],
            "nested": [{"refresh_token": "S3cr3t", "page_token": "kept", "max_tokens": 3}],
            "uri": ValueError("redis://:S3cr3t@h"),
        }
    )
    assert clean == {
        "api_key": REDACTED,
        "owner_dsn": REDACTED,
        "Authorization": REDACTED,
        "nested": [{"refresh_token": REDACTED, "page_token": "kept", "max_tokens": 3}],
        "uri": "redis://:[redacted]@h",
    }
