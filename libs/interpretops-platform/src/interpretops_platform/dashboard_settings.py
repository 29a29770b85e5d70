"""The section `dashboard` of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class OidcClientSettings(BaseModel):
    """What the dashboard is to the identity provider that `security.oidc` names.

    Attributes:
        client_id: Its name there.
        client_secret: Its secret there; none for a public client, which PKCE alone protects.
        scopes: What it asks for. `offline_access` lets a session outlive the first token.
        token: Which of the provider's tokens the edge is shown: the one whose `aud` is
            `security.oidc.audience`.
        label: What the button says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "offline_access")
    token: Literal["access_token", "id_token"] = "access_token"
    label: str = "Sign in with your organisation"


class DashboardSettings(BaseModel):
    """How the dashboard is served.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes any free one.
        api: Where the edge answers. Default: this machine, at `edge.port`.
        public_url: Where people open it, such as `https://interpretops.example`. Cookies are then
            sent over TLS alone. Default: whatever address a request names.
        session_key_file: Keys that cookies are sealed with, the newest first; every copy of the
            dashboard needs the same. Default: one key per process, so that a restart signs out.
        session_hours: A session ends after this, however busy.
        oidc: Signing in through the identity provider, where one is set up.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)
    api: str | None = Field(default=None, pattern=r"^https?://[^\s/]+(/[^\s]*)?$")
    public_url: str | None = Field(default=None, pattern=r"^https?://[^\s/]+$")
    session_key_file: Path | None = None
    session_hours: float = Field(default=12, gt=0, le=24 * 30)
    oidc: OidcClientSettings | None = None
