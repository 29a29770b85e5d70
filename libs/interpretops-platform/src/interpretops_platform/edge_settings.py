"""The section `edge` of the settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Seconds = Annotated[float, Field(gt=0, le=24 * 3600)]


class EdgeSettings(BaseModel):
    """How the HTTP edge is served, and what one caller may take of it.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes any free one.
        processes: Processes that share the port; one keeps about one core busy.
        body_bytes: The largest request body, counted as it arrives.
        requests_per_second: What one tenant may ask for in the long run.
        request_burst: What one tenant may ask for at once after a pause.
        call_seconds: The longest the edge waits for one answer of a service.
        generate_seconds: The longest one generation may take.
        max_wait_seconds: The longest that `Prefer: wait` is heeded.
        key_cache_seconds: How long a verified API key is not looked up again. A revoked key dies
            within this time.
        heartbeat_seconds: How often an idle event stream shows that it is alive.
        drain_seconds: On shutdown, how long requests in flight may go on.
        cors_origins: Web pages of other origins that may call; none by default.
        docs: Whether `/docs` shows the interactive reference.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    processes: int = Field(default=1, ge=1, le=64)
    body_bytes: int = Field(default=8 * 2**20, ge=2**10, le=2**30)
    requests_per_second: float = Field(default=1000, gt=0)
    request_burst: int = Field(default=2000, ge=1)
    call_seconds: _Seconds = 30
    generate_seconds: _Seconds = 600
    max_wait_seconds: _Seconds = 600
    key_cache_seconds: float = Field(default=5, ge=0, le=60)
    heartbeat_seconds: _Seconds = 15
    drain_seconds: _Seconds = 20
    cors_origins: tuple[str, ...] = ()
    docs: bool = True
