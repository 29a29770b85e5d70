"""The application: pages, sessions, and everything else for the edge; one origin for all of it."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from interpretops_platform.errors import SettingsError
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from interpretops_dashboard.edge import EdgeClient, away, problem
from interpretops_dashboard.export import EXPORT, Export
from interpretops_dashboard.identity import IdentityProvider, SignInError
from interpretops_dashboard.session import Cookies, Session, TokenTooLongError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from interpretops_platform.settings import Settings
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_OURS = "x-interpretops"
"""Browsers let no page of another origin send this header unasked."""
_MAX_KEY = 1000
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def create_app(settings: Settings, *, pages: Path = EXPORT) -> Starlette:
    """The dashboard as an ASGI application.

    Args:
        settings: Of the installation; the section `dashboard` is read.
        pages: Where the built pages are.

    Raises:
        SettingsError: When the pages are missing, or it is set up in a way that cannot work.
    """
    export = Export(pages)
    dashboard = settings.dashboard
    if dashboard.oidc is not None and settings.security.oidc is None:
        raise SettingsError(
            "dashboard.oidc is set, and no identity provider is",
            fix="name the provider in security.oidc, which the edge believes too",
        )
    cookies = Cookies(dashboard)
    address = dashboard.api or f"http://127.0.0.1:{settings.edge.port}"

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        async with httpx.AsyncClient(timeout=10, limits=limits) as http:
            provider = None
            if dashboard.oidc is not None and settings.security.oidc is not None:
                provider = IdentityProvider(settings.security.oidc, dashboard.oidc, http)
            app.state.desk = Desk(
                EdgeClient(http, address.rstrip("/")), cookies, provider, dashboard.public_url
            )
            yield

    return Starlette(
        routes=[
            Route("/session", read_session, methods=["GET"]),
            Route("/session", sign_in, methods=["POST"]),
            Route("/session", sign_out, methods=["DELETE"]),
            Route("/session/oidc", begin_oidc, methods=["GET"]),
            Route("/session/oidc/callback", complete_oidc, methods=["GET"]),
            Route("/healthz", healthy, methods=["GET"]),
            Route("/api/{path:path}", forward, methods=["GET", "HEAD", *sorted(_CHANGES)]),
            Mount("/", export),
        ],
        middleware=[Middleware(Guard, secure=(dashboard.public_url or "").startswith("https:"))],
        lifespan=lifespan,
    )


@dataclass(frozen=True)
class Desk:
    """What requests are served with.

    Attributes:
        edge: Where the work is done.
        cookies: Who is signed in.
        provider: Who else vouches for people.
        public_url: Where people open the dashboard, if that is fixed.
    """

    edge: EdgeClient
    cookies: Cookies
    provider: IdentityProvider | None
    public_url: str | None

    def callback(self, request: Request) -> str:
        """Where the identity provider sends people back to."""
        base = self.public_url or str(request.base_url).rstrip("/")
        return f"{base}/session/oidc/callback"


class Guard:
    """Refuses changes that another site's page asks for, and adds headers to every answer.

    Args:
        app: What is inside.
        secure: Whether people come over TLS.
    """

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._headers = dict(_HEADERS)
        if secure:
            self._headers["strict-transport-security"] = "max-age=63072000; includeSubDomains"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["method"] in _CHANGES and not _same_origin(scope):
            refused = problem(
                403, "this request comes from another site", "use the dashboard's pages"
            )
            await refused(scope, receive, send_strictly)
            return
        await self._app(scope, receive, send_strictly)


def _same_origin(scope: Scope) -> bool:
    from starlette.datastructures import Headers

    headers = Headers(scope=scope)
    if headers.get(_OURS) is None or headers.get("sec-fetch-site") not in (None, "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


async def healthy(_: Request) -> Response:
    """The process is alive."""
    return JSONResponse({"status": "ok"})


async def read_session(request: Request) -> Response:
    """Say who is signed in, and how one may sign in."""
    desk: Desk = request.app.state.desk
    session = await _session(request)
    answer: dict[str, Any] = {
        "caller": None,
        "ends_at": None,
        "oidc": None if desk.provider is None else desk.provider.settings.label,
    }
    if session is None:
        response: Response = _fresh(answer)
        desk.cookies.drop(request, response)
        return response
    try:
        who = await desk.edge.whoami(session.credential)
    except httpx.TransportError:
        return away()
    if who.status_code == HTTPStatus.UNAUTHORIZED:
        response = _fresh(answer)
        desk.cookies.drop(request, response)
        return response
    if who.status_code != HTTPStatus.OK:
        return _passed_on(who)
    response = _fresh({**answer, "caller": who.json(), "ends_at": session.ends_at})
    return _kept(request, response, session)


async def sign_in(request: Request) -> Response:
    """Sign in with an API key, which the edge must know."""
    desk: Desk = request.app.state.desk
    try:
        key = (await request.json())["key"].strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        key = ""
    if not key or len(key) > _MAX_KEY or not key.isascii() or not key.isprintable():
        return problem(422, "no API key was given", "paste a key that begins with iop_")
    try:
        who = await desk.edge.whoami(key)
    except httpx.TransportError:
        return away()
    if who.status_code != HTTPStatus.OK:
        return _passed_on(who)
    response = _fresh({"caller": who.json()})
    session = Session(credential=key, ends_at=desk.cookies.ends_at())
    desk.cookies.keep(request, response, session)
    return response


async def sign_out(request: Request) -> Response:
    """Sign out."""
    desk: Desk = request.app.state.desk
    response = Response(status_code=204)
    desk.cookies.drop(request, response)
    return response


async def begin_oidc(request: Request) -> Response:
    """Send a person to the identity provider."""
    desk: Desk = request.app.state.desk
    if desk.provider is None:
        return RedirectResponse("/sign-in?problem=no-provider", 303)
    back = request.query_params.get("back", "/")
    if not back.startswith("/") or back.startswith(("//", "/\\")):
        back = "/"
    try:
        url, attempt = await desk.provider.begin(desk.callback(request), back)
    except SignInError as error:
        return _sign_in_failed(error)
    response = RedirectResponse(url, 303)
    desk.cookies.keep_attempt(request, response, attempt)
    return response


async def complete_oidc(request: Request) -> Response:
    """Sign a person in who comes back from the identity provider."""
    desk: Desk = request.app.state.desk
    attempt = desk.cookies.attempt(request)
    if desk.provider is None or attempt is None:
        return RedirectResponse("/sign-in?problem=expired", 303)
    callback = desk.callback(request)
    answer = f"{callback}?{request.url.query}"
    try:
        session = await desk.provider.complete(callback, answer, attempt, desk.cookies.ends_at())
        who = await desk.edge.whoami(session.credential)
        if who.status_code != HTTPStatus.OK:
            raise SignInError("refused", f"the edge refuses the token: {who.text[:500]}")
        response: Response = RedirectResponse(attempt.back, 303)
        desk.cookies.keep(request, response, session)
    except SignInError as error:
        response = _sign_in_failed(error)
    except TokenTooLongError:
        response = _sign_in_failed(SignInError("too-long", "the tokens do not fit into cookies"))
    except httpx.TransportError:
        response = _sign_in_failed(SignInError("platform", "the edge does not answer"))
    desk.cookies.drop_attempt(request, response)
    return response


async def forward(request: Request) -> Response:
    """Pass a request on to the edge, for whoever is signed in."""
    desk: Desk = request.app.state.desk
    session = await _session(request)
    if session is None:
        response = problem(401, "nobody is signed in", "sign in")
        desk.cookies.drop(request, response)
        return response
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw.decode("latin-1").removeprefix("/api")
    return _kept(request, await desk.edge.forward(request, path, session.credential), session)


async def _session(request: Request) -> Session | None:
    """Whoever is signed in, with a token that lasts."""
    desk: Desk = request.app.state.desk
    session = desk.cookies.session(request)
    if session is None or desk.provider is None:
        return session
    try:
        return await desk.provider.renewed(session)
    except SignInError as error:
        logger.info("a session ended", extra={"reason": str(error)})
        return None


def _kept(request: Request, response: Response, session: Session) -> Response:
    """The answer, with the session in it where that has changed."""
    desk: Desk = request.app.state.desk
    if desk.cookies.session(request) != session:
        desk.cookies.keep(request, response, session)
    return response


def _fresh(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"cache-control": "no-store"})


def _passed_on(answer: httpx.Response) -> Response:
    kind = answer.headers.get("content-type", "application/problem+json")
    return Response(answer.content, answer.status_code, media_type=kind)


def _sign_in_failed(error: SignInError) -> Response:
    logger.warning("nobody could sign in", extra={"reason": str(error)})
    return RedirectResponse(f"/sign-in?problem={error.code}", 303)
