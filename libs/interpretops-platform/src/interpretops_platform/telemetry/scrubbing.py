"""Takes secrets out of text and values before they reach a log, a span or a stored error.

Every pattern is bounded or anchored, so that scrubbing stays linear on hostile text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

_SECRET_WORD = (
    r"(?:password|passwd|pwd|passphrase|secret|pepper|credentials?|api[_-]?key|private[_-]?key"
    r"|master[_-]?key|secret[_-]?key|access[_-]?key|data[_-]?key"
    r"|(?:access|refresh|id|session|security|bearer|auth)[_-]?token|token)"
)
_SECRET_HEADER = r"(?:proxy-)?authorization|set-cookie|cookie|x-api-key|x-interpretops-identity"
# `max_tokens` is no such name, for names end there; nor are the cursors of pages.
_SECRET_NAME = rf"(?:[\w-]{{0,64}}[_-])??(?<!page_)(?<!next_){_SECRET_WORD}"
_SECRET_KEY = re.compile(rf"{_SECRET_HEADER}|{_SECRET_NAME}|(?:[\w-]{{0,64}}_)?dsn", re.I | re.A)

_PATTERNS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    # PEM private keys, cut off ones too.
    (
        r"-----BEGIN",
        re.compile(
            r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,32}PRIVATE KEY-----)?"
        ),
        REDACTED,
    ),
    # A header or its repr: everything to the end of the line or of the quoted value.
    (
        r"authorization|cookie|x-api-key|identity",
        re.compile(
            rf"(?P<name>(?<![\w-])b?[\"']?(?:{_SECRET_HEADER})[\"']?\s{{0,4}}[:=,]\s{{0,4}})"
            r"(?!\[redacted\])(?:b?\"[^\"\n]*\"?|b?'[^'\n]*'?|[^\s\"'].*)",
            re.IGNORECASE | re.ASCII,
        ),
        rf"\g<name>{REDACTED}",
    ),
    (r"iop_", re.compile(r"(?<![A-Za-z0-9])iop_[A-Za-z0-9_-]{4,}", re.ASCII), f"iop_{REDACTED}"),
    # JSON Web Tokens, signed (three parts) and encrypted (five).
    (
        r"ey[JAKI]",
        re.compile(r"(?<![\w-])ey[JAKI][\w-]{5,}(?:\.[\w-]*){1,4}", re.ASCII),
        REDACTED,
    ),
    (
        r"bearer",
        re.compile(r"(?P<scheme>\bbearer\s{1,4})[\w.~+/=-]{8,}", re.IGNORECASE | re.ASCII),
        rf"\g<scheme>{REDACTED}",
    ),
    # user:password@ of any address. The last @ counts, for a password may hold one unescaped.
    (
        r"://",
        re.compile(r"(?P<user>://[^\s:/@]{0,128}:)[^\s]{0,1024}@", re.ASCII),
        rf"\g<user>{REDACTED}@",
    ),
    # Signatures of presigned downloads.
    (
        r"x-amz",
        re.compile(
            r"(?P<name>\bX-Amz-(?:Signature|Credential|Security-Token)(?:=|%3D))[^&\s\"']+",
            re.IGNORECASE | re.ASCII,
        ),
        rf"\g<name>{REDACTED}",
    ),
    # name=value, name: value and their JSON.
    (
        r"pass|pwd|secret|pepper|credential|key|token",
        re.compile(
            rf"(?P<name>(?<![\w-]){_SECRET_NAME}[\"']?\s{{0,4}}[:=]\s{{0,4}})"
            r"(?!\[redacted\])(?:\"[^\"\n]*\"?|'[^'\n]*'?|[^\s\"',;&}\])]+)",
            re.IGNORECASE | re.ASCII,
        ),
        rf"\g<name>{REDACTED}",
    ),
)
"""What every match holds (in either case), what matches, and what it becomes."""

_SUSPECT = re.compile("|".join(held for held, _, _ in _PATTERNS), re.IGNORECASE | re.ASCII)
"""Most texts hold nothing of the kind, so they are looked through once and not by every pattern."""


def scrub(text: str) -> str:
    """The text without API keys, tokens, passwords, private keys and presigned signatures.

    Args:
        text: Anything that may be shown to an operator.
    """
    if not _SUSPECT.search(text):
        return text
    for _, pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def scrubbed(value: Any) -> Any:
    """A value of JSON's shape without secrets: scrubbed texts, and nothing under a secret's name.

    Args:
        value: Mappings, lists, texts, numbers; anything else is shown as its text.
    """
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return scrub(value)
        case Mapping():
            return {
                scrub(str(key)): REDACTED if _SECRET_KEY.fullmatch(str(key)) else scrubbed(item)
                for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [scrubbed(item) for item in value]
        case _:
            return scrub(str(value))
