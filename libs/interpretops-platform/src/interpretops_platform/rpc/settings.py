"""The section `grpc` of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Seconds = Annotated[float, Field(gt=0, le=24 * 3600)]


class TlsSettings(BaseModel):
    """Certificates for both sides of every call; the files are read again when they change.

    Attributes:
        certificate: PEM chain of this process, its own certificate first.
        key: PEM private key of that certificate.
        authority: PEM certificates that the other side's certificate must come from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: Path
    key: Path
    authority: Path


class GrpcSettings(BaseModel):
    """How calls are served and made.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes any free one.
        health_port: A second port, in the clear, that answers health checks and nothing else: the
            probes of Kubernetes show no certificate. None opens none.
        production: Leaves reflection out, which shows the contracts to anybody who connects.
        identity_keys: File of keys with which the edge vouches for callers and services check it.
        identity_seconds: How long the word of the edge holds.
        tls: Certificates; without them calls are in the clear, for one machine or a mesh.
        max_unary_seconds: The furthest deadline of a call with one answer.
        max_stream_seconds: The furthest deadline of a stream.
        default_unary_seconds: Deadline of our calls that state none.
        default_stream_seconds: Deadline of our streams that state none.
        max_message_bytes: The largest message, either way.
        max_concurrent_calls: Calls served at once; those beyond are refused.
        keepalive_seconds: An idle connection is probed this often.
        keepalive_timeout_seconds: A connection that does not answer a probe is closed after this.
        connection_age_seconds: A connection is renewed after about this, which spreads callers over
            new replicas.
        lame_duck_seconds: Between saying that it is not ready and refusing calls, so that balancers
            notice first.
        grace_seconds: On shutdown, how long calls in flight may go on before they are cancelled.
        readiness_seconds: How often readiness is looked at.
        retry_attempts: How often an idempotent call is tried in all.
        retry_initial_seconds: Upper bound of the first, random delay; it doubles with each attempt.
        retry_max_seconds: Upper bound of every delay.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    health_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    production: bool = False
    identity_keys: Path | None = None
    identity_seconds: Annotated[int, Field(ge=5, le=900)] = 60
    tls: TlsSettings | None = None
    max_unary_seconds: _Seconds = 120
    max_stream_seconds: _Seconds = 3600
    default_unary_seconds: _Seconds = 30
    default_stream_seconds: _Seconds = 3600
    max_message_bytes: int = Field(default=16 * 2**20, ge=2**12, le=2**30)
    max_concurrent_calls: int = Field(default=1000, ge=1)
    keepalive_seconds: _Seconds = 60
    keepalive_timeout_seconds: _Seconds = 20
    connection_age_seconds: _Seconds = 1800
    lame_duck_seconds: float = Field(default=0, ge=0, le=300)
    grace_seconds: float = Field(default=20, ge=0, le=3600)
    readiness_seconds: _Seconds = 5
    retry_attempts: int = Field(default=4, ge=2, le=5)
    retry_initial_seconds: Annotated[float, Field(ge=0.01, le=10)] = 0.1
    retry_max_seconds: Annotated[float, Field(ge=0.01, le=60)] = 2

    @model_validator(mode="after")
    def _defaults_are_allowed(self) -> Self:
        if self.default_unary_seconds > self.max_unary_seconds:
            raise ValueError("default_unary_seconds must be at most max_unary_seconds")
        if self.default_stream_seconds > self.max_stream_seconds:
            raise ValueError("default_stream_seconds must be at most max_stream_seconds")
        return self
