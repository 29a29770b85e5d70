"""Optimistic concurrency: what a caller has seen, so that nobody overwrites what they have not."""

from typing import Annotated, Any

from fastapi import Header

IfMatch = Annotated[
    str | None,
    Header(
        pattern=r'^(\*|"[0-9]{1,9}")$',
        description="`ETag` as the caller saw it; if it was changed since, nothing is done and the "
        "answer is a 412.",
    ),
]
CHANGED: dict[int | str, dict[str, Any]] = {
    412: {"description": "It was changed since the caller looked (`If-Match`)."},
}


def etag(revision: int) -> str:
    """The entity tag of a revision."""
    return f'"{revision}"'


def revision_of(if_match: str | None) -> int | None:
    """The revision that a caller has seen; none takes any."""
    return None if if_match in (None, "*") else int(if_match.strip('"'))
