"""The edge, seen from the dashboard: its answers are passed on as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from starlette.responses import JSONResponse, Response, StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

# What belongs to one connection, or to the dashboard's own side of it.
_NOT_SENT = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *(
            "host",
            "cookie",
            "authorization",
            "origin",
            "referer",
            "proxy-authorization",
            "forwarded",
        ),
    }
)
_NOT_SHOWN = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("set-cookie", "server", "date", "strict-transport-security", "www-authenticate"),
    }
)


@dataclass(frozen=True)
class EdgeClient:
    """Calls the edge for whoever is signed in.

    Attributes:
        http: Connections to it.
        address: Where it answers, without a slash at the end.
    """

    http: httpx.AsyncClient
    address: str

    async def whoami(self, credential: str) -> httpx.Response:
        """What the edge says about a credential.

        Raises:
            httpx.TransportError: When the edge does not answer.
        """
        headers = {"authorization": f"Bearer {credential}"}
        return await self.http.get(f"{self.address}/whoami", headers=headers)

    async def forward(self, request: Request, path: str, credential: str) -> Response:
        """Pass a request on, and its answer back, piece by piece.

        Args:
            request: As the browser sent it.
            path: What of its address the edge is asked for, quoted as it came.
            credential: Of whoever is signed in.
        """
        query = request.scope["query_string"].decode("latin-1")
        url = f"{self.address}{path}" + (f"?{query}" if query else "")
        headers = [(n, v) for n, v in request.headers.items() if n not in _NOT_SENT]
        headers.append(("authorization", f"Bearer {credential}"))
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        outgoing = self.http.build_request(
            request.method,
            url,
            headers=headers,
            content=request.stream() if has_body else None,
            # An event stream is silent for as long as nothing happens.
            timeout=httpx.Timeout(10, read=None, write=60),
        )
        try:
            answer = await self.http.send(outgoing, stream=True)
        except httpx.TransportError:
            return away()
        shown = {n: v for n, v in answer.headers.items() if n not in _NOT_SHOWN}
        return StreamingResponse(_pieces(answer), answer.status_code, shown)


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


def away() -> Response:
    """The edge does not answer."""
    return problem(
        503, "the platform does not answer", "wait a moment; it may be starting", retry_after=2
    )


def problem(status: int, detail: str, fix: str, *, retry_after: int | None = None) -> Response:
    """A problem document, as the edge's are (RFC 9457)."""
    title = httpx.codes.get_reason_phrase(status)
    content: dict[str, Any] = {
        "type": f"urn:interpretops:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "fix": fix,
    }
    headers = {"cache-control": "no-store"}
    if retry_after is not None:
        content["retry_after"] = retry_after
        headers["retry-after"] = str(retry_after)
    return JSONResponse(content, status, headers, media_type="application/problem+json")
