"""The built pages, read once, with the policy that each of them is served under."""

from __future__ import annotations

import base64
import gzip
import hashlib
import mimetypes
import re
import secrets
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from interpretops_platform.errors import SettingsError
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

EXPORT = Path(__file__).parent / "static"
"""What `make dashboard` builds."""

_NONCE = b'content="__CSP_NONCE__"'
"""Stands in the pages for the nonce of one answer, which libraries put on the styles they add."""
_WORKER = "default-src 'none'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'"
"""What a script may do that runs as a worker, whose policy is that of its own answer."""
_FOREVER = "public, max-age=31536000, immutable"
_COMPRESSED = re.compile(r"text/|application/(javascript|json|wasm|manifest\+json)|image/svg")
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".txt": "text/plain"}


@dataclass(frozen=True)
class Asset:
    """One file of the export.

    Attributes:
        body: Its content.
        media_type: What it is.
        etag: Names the content.
        immutable: Whether its name changes with its content.
        scripts: Hashes of the scripts that stand in a page, as a policy names them.
    """

    body: bytes
    media_type: str
    etag: str
    immutable: bool
    scripts: tuple[str, ...] = ()
    packed: bytes = field(default=b"", repr=False)

    @property
    def is_page(self) -> bool:
        """Whether people see it as a page."""
        return self.media_type == "text/html"


class Export:
    """Serves the built pages; an ASGI application.

    Args:
        folder: Where they were built to.

    Raises:
        SettingsError: When there are none.
    """

    def __init__(self, folder: Path = EXPORT) -> None:
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        self._assets = {path.relative_to(folder).as_posix(): _read(path, folder) for path in files}
        if "index.html" not in self._assets:
            raise SettingsError(
                f"the dashboard's pages are not in {folder}", fix="build them: make dashboard"
            )

    def find(self, path: str) -> Asset | None:
        """The file that an address names.

        Args:
            path: Such as `/circuits` or `/_next/static/chunks/main.js`.
        """
        name = path.strip("/")
        for candidate in (name, f"{name}.html", f"{name}/index.html".lstrip("/")):
            found = self._assets.get(candidate)
            if found is not None:
                return found
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        from starlette.requests import Request

        await self.answer(Request(scope))(scope, receive, send)

    def answer(self, request: Request) -> Response:
        """The answer to a request."""
        if request.method not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"allow": "GET, HEAD"})
        asset = self.find(request.url.path)
        status = 200
        if asset is None:
            asset, status = self._assets.get("404.html"), 404
            if asset is None:
                return Response(status_code=404)
        if asset.is_page:
            return _page(asset, status)
        headers = {
            "etag": asset.etag,
            "cache-control": _FOREVER if asset.immutable else "no-cache",
            "vary": "accept-encoding",
            "content-security-policy": _WORKER,
        }
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        body = asset.body
        if asset.packed and "gzip" in request.headers.get("accept-encoding", ""):
            body = asset.packed
            headers["content-encoding"] = "gzip"
        return Response(body, status, headers, asset.media_type)


def _page(asset: Asset, status: int) -> Response:
    nonce = secrets.token_urlsafe(18)
    body = asset.body.replace(_NONCE, f'content="{nonce}"'.encode())
    headers = {
        "content-security-policy": content_policy(asset.scripts, nonce),
        "cache-control": "no-store",
    }
    return Response(body, status, headers, "text/html; charset=utf-8")


def content_policy(scripts: tuple[str, ...], nonce: str) -> str:
    """The Content-Security-Policy of a page.

    Args:
        scripts: Hashes of the scripts that stand in it; no other script in a page is run.
        nonce: Allows the styles that an editor or a dialog adds while it is open. It says nothing
            about scripts.
    """
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *scripts)),
            f"style-src 'self' 'nonce-{nonce}'",
            "connect-src 'self'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _read(path: Path, folder: Path) -> Asset:
    body = path.read_bytes()
    guessed = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    kind = guessed or "application/octet-stream"
    page = kind == "text/html"
    packed = b"" if page or not _COMPRESSED.match(kind) else gzip.compress(body, mtime=0)
    return Asset(
        body=body,
        media_type=kind,
        etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        immutable=path.relative_to(folder).as_posix().startswith("_next/static/"),
        scripts=_inline_scripts(body.decode()) if page else (),
        packed=packed if len(packed) < len(body) else b"",
    )


class _Scripts(HTMLParser):
    """Collects the scripts that stand in a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a script without a source."""
        if tag == "script" and "src" not in dict(attrs):
            self._inside = True
            self.found.append("")

    def handle_data(self, data: str) -> None:
        """Take a script's text."""
        if self._inside:
            self.found[-1] += data

    def handle_endtag(self, tag: str) -> None:
        """End a script."""
        if tag == "script":
            self._inside = False


def _inline_scripts(page: str) -> tuple[str, ...]:
    parser = _Scripts()
    parser.feed(page)
    parser.close()
    digests = (hashlib.sha256(text.encode()).digest() for text in parser.found)
    return tuple(dict.fromkeys(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests))
