"""Who is signed in: a credential of the edge, sealed into a cookie that no script can read."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from interpretops_platform.security.key_files import read_keys, require_key_sizes
from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from interpretops_platform.dashboard_settings import DashboardSettings
    from starlette.requests import Request
    from starlette.responses import Response

Sealed = TypeVar("Sealed", bound=BaseModel)

_PIECE = 3500
_PIECES = 6
_SIGN_IN_SECONDS = 600


class Session(BaseModel):
    """A person who has signed in.

    Attributes:
        credential: What the edge is shown: an API key or a token.
        refresh_token: Gets the next token from the identity provider.
        expires_at: When the token ends, in seconds since the epoch; keys end when the edge says so.
        ends_at: When the person has to sign in again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    credential: str
    refresh_token: str | None = None
    expires_at: float | None = None
    ends_at: float


class Attempt(BaseModel):
    """A person who was sent to the identity provider and has not come back yet.

    Attributes:
        state: Ties the answer to this browser.
        nonce: Ties the identity token to it.
        verifier: Proves that whoever redeems the code asked for it (PKCE).
        back: The page to show afterwards.
        ends_at: When it is too late.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: str
    nonce: str
    verifier: str
    back: str
    ends_at: float


class Cookies:
    """Seals and opens cookies.

    A cookie may be larger than browsers take, since providers make long tokens: it is cut in pieces.
    It is `SameSite=Strict`; that of an `Attempt` is `Lax`, for the answer comes from another site.

    Args:
        settings: Whose keys, and for how long.

    Raises:
        SettingsError: When the keys cannot be read.
    """

    def __init__(self, settings: DashboardSettings) -> None:
        keys = [Fernet.generate_key()]
        if settings.session_key_file is not None:
            raw = read_keys(settings.session_key_file, "session keys")
            require_key_sizes(raw, "a session key")
            keys = [base64.urlsafe_b64encode(key) for key in raw]
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self._secure = (settings.public_url or "").startswith("https:")
        self._seconds = settings.session_hours * 3600

    def session(self, request: Request) -> Session | None:
        """The session of a request, while it lasts."""
        return self._open(request, Session, "session")

    def keep(self, request: Request, response: Response, session: Session) -> None:
        """Sign a person in with this answer."""
        left = round(session.ends_at - time.time())
        self._set(request, response, "session", session, seconds=left, same_site="strict")

    def drop(self, request: Request, response: Response) -> None:
        """Sign a person out with this answer."""
        self._unset(request, response, "session")

    def attempt(self, request: Request) -> Attempt | None:
        """The attempt to sign in that a request answers."""
        return self._open(request, Attempt, "sign-in")

    def keep_attempt(self, request: Request, response: Response, attempt: Attempt) -> None:
        """Remember an attempt until its answer comes."""
        seconds = _SIGN_IN_SECONDS
        self._set(request, response, "sign-in", attempt, seconds=seconds, same_site="lax")

    def drop_attempt(self, request: Request, response: Response) -> None:
        """Forget an attempt."""
        self._unset(request, response, "sign-in")

    def ends_at(self) -> float:
        """When a session that begins now ends."""
        return time.time() + self._seconds

    @staticmethod
    def attempt_ends_at() -> float:
        """When an attempt that begins now ends."""
        return time.time() + _SIGN_IN_SECONDS

    def _name(self, request: Request, what: str) -> str:
        # Browsers tell cookies apart by host alone, and a machine may have several dashboards.
        if self._secure:
            return f"__Host-interpretops-{what}"
        return f"interpretops-{request.url.port or 80}-{what}"

    def _open(self, request: Request, kind: type[Sealed], what: str) -> Sealed | None:
        name = self._name(request, what)
        sealed = "".join(request.cookies.get(f"{name}.{i}", "") for i in range(_PIECES))
        if not sealed:
            return None
        try:
            found = kind.model_validate_json(self._fernet.decrypt(sealed))
        except (InvalidToken, ValidationError):
            return None
        ends: float = getattr(found, "ends_at", 0.0)
        return found if time.time() < ends else None

    def _set(
        self,
        request: Request,
        response: Response,
        what: str,
        content: BaseModel,
        *,
        seconds: int,
        same_site: str,
    ) -> None:
        name = self._name(request, what)
        sealed = self._fernet.encrypt(content.model_dump_json().encode()).decode()
        pieces = [sealed[i : i + _PIECE] for i in range(0, len(sealed), _PIECE)]
        if len(pieces) > _PIECES:
            raise TokenTooLongError
        for i in range(_PIECES):
            piece = f"{name}.{i}"
            if i < len(pieces):
                response.set_cookie(
                    piece,
                    pieces[i],
                    max_age=seconds,
                    path="/",
                    secure=self._secure,
                    httponly=True,
                    samesite="strict" if same_site == "strict" else "lax",
                )
            elif piece in request.cookies:
                response.delete_cookie(piece, path="/", secure=self._secure, httponly=True)

    def _unset(self, request: Request, response: Response, what: str) -> None:
        name = self._name(request, what)
        for i in range(_PIECES):
            if f"{name}.{i}" in request.cookies:
                response.delete_cookie(f"{name}.{i}", path="/", secure=self._secure, httponly=True)


class TokenTooLongError(Exception):
    """The provider's tokens do not fit into cookies."""
