"""Signing in through the identity provider: OpenID Connect, authorization code with PKCE."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

import httpx
import jwt
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from interpretops_dashboard.session import Attempt, Cookies, Session

if TYPE_CHECKING:
    from interpretops_platform.dashboard_settings import OidcClientSettings
    from interpretops_platform.security.tokens import OidcSettings

logger = logging.getLogger(__name__)

_TTL_SECONDS = 600.0
_EARLY_SECONDS = 30.0
_REMEMBERED = 1000


class SignInError(Exception):
    """Signing in through the provider did not work; the message is for the log.

    Args:
        code: Tells the page which sentence to show.
        message: Why.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class IdentityProvider:
    """The provider, seen as one of its clients.

    Args:
        provider: Which one it is.
        client: What the dashboard is there.
        http: Connections to it.
    """

    def __init__(
        self, provider: OidcSettings, client: OidcClientSettings, http: httpx.AsyncClient
    ) -> None:
        self.settings = client
        self._provider = provider
        self._http = http
        self._documents: tuple[float, dict[str, Any], jwt.PyJWKSet] | None = None
        self._refreshing: dict[str, asyncio.Task[Session]] = {}

    async def begin(self, redirect: str, back: str) -> tuple[str, Attempt]:
        """Where to send a person, and what to remember of it.

        Raises:
            SignInError: When the provider does not answer.
        """
        metadata, _ = await self._metadata()
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
        async with self._oauth(redirect) as oauth:
            url, state = oauth.create_authorization_url(
                metadata["authorization_endpoint"], nonce=nonce, code_verifier=verifier
            )
        ends_at = Cookies.attempt_ends_at()
        return str(url), Attempt(
            state=str(state), nonce=nonce, verifier=verifier, back=back, ends_at=ends_at
        )

    async def complete(
        self, redirect: str, answer: str, attempt: Attempt, ends_at: float
    ) -> Session:
        """The session of a person who came back.

        Args:
            redirect: Where they were to come back to.
            answer: The whole address at which they did.
            attempt: What was remembered of them.
            ends_at: When the session is to end.

        Raises:
            SignInError: When the provider refused, or its answer is not theirs.
        """
        metadata, keys = await self._metadata()
        async with self._oauth(redirect, state=attempt.state) as oauth:
            try:
                token = await oauth.fetch_token(
                    metadata["token_endpoint"],
                    authorization_response=answer,
                    code_verifier=attempt.verifier,
                )
            except (AuthlibBaseError, httpx.HTTPError, ValueError) as error:
                raise SignInError("refused", f"no token for the code: {error}") from error
        self._check_identity(token, keys, attempt.nonce)
        return self._session(token, ends_at)

    async def renewed(self, session: Session) -> Session:
        """The session with a token that lasts; the same one where it still does.

        Requests come in parallel and a refresh token may work once: the first request refreshes and
        the others wait for it.

        Raises:
            SignInError: When the provider gives no new token.
        """
        if session.expires_at is None or time.time() < session.expires_at - _EARLY_SECONDS:
            return session
        token = session.refresh_token
        if token is None:
            if time.time() < session.expires_at:
                return session
            raise SignInError("expired", "the token has expired and there is none to refresh it")
        if token not in self._refreshing:
            while len(self._refreshing) >= _REMEMBERED:
                self._refreshing.pop(next(iter(self._refreshing)))
            self._refreshing[token] = asyncio.create_task(self._refresh(session))
        return await asyncio.shield(self._refreshing[token])

    async def _refresh(self, session: Session) -> Session:
        metadata, _ = await self._metadata()
        async with self._oauth(None) as oauth:
            try:
                token = await oauth.refresh_token(
                    metadata["token_endpoint"], refresh_token=session.refresh_token
                )
            except (AuthlibBaseError, httpx.HTTPError, ValueError) as error:
                raise SignInError("expired", f"no token for the refresh token: {error}") from error
        token.setdefault("refresh_token", session.refresh_token)
        return self._session(token, session.ends_at)

    def _session(self, token: dict[str, Any], ends_at: float) -> Session:
        credential = token.get(self.settings.token)
        if not isinstance(credential, str):
            raise SignInError("refused", f"the provider gave no {self.settings.token}")
        return Session(
            credential=credential,
            refresh_token=token.get("refresh_token"),
            expires_at=token.get("expires_at"),
            ends_at=ends_at,
        )

    def _check_identity(self, token: dict[str, Any], keys: jwt.PyJWKSet, nonce: str) -> None:
        try:
            text = token["id_token"]
            key = keys[jwt.get_unverified_header(text).get("kid", "")]
            claims = jwt.decode(
                text,
                key,
                algorithms=sorted(self._provider.algorithms),
                issuer=self._provider.issuer,
                audience=self.settings.client_id,
                leeway=self._provider.leeway_seconds,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (KeyError, jwt.PyJWTError) as error:
            raise SignInError("refused", f"the identity token does not hold: {error!r}") from error
        if not secrets.compare_digest(str(claims.get("nonce", "")), nonce):
            raise SignInError("refused", "the identity token answers another sign-in")

    def _oauth(self, redirect: str | None, state: str | None = None) -> AsyncOAuth2Client:
        secret = self.settings.client_secret
        return AsyncOAuth2Client(
            client_id=self.settings.client_id,
            client_secret=None if secret is None else secret.get_secret_value(),
            token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
            scope=" ".join(self.settings.scopes),
            redirect_uri=redirect,
            code_challenge_method="S256",
            state=state,
            timeout=10,
        )

    async def _metadata(self) -> tuple[dict[str, Any], jwt.PyJWKSet]:
        """The provider's description of itself, and its keys."""
        if self._documents is not None and time.monotonic() < self._documents[0]:
            return self._documents[1:]
        issuer = self._provider.issuer
        try:
            where = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
            metadata = (await self._http.get(where)).raise_for_status().json()
            if metadata["issuer"] != issuer:
                raise SignInError("provider", f"{where} speaks for {metadata['issuer']!r}")
            keys = (await self._http.get(metadata["jwks_uri"])).raise_for_status().json()
            found = (metadata, jwt.PyJWKSet.from_dict(keys))
        except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            raise SignInError(
                "provider", f"the provider does not describe itself: {error!r}"
            ) from error
        self._documents = (time.monotonic() + _TTL_SECONDS, *found)
        return found
