"""The section `telemetry` of the settings."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class TelemetrySettings(BaseModel):
    """What is logged, traced and measured, and where it goes; by default nothing leaves the process.

    Attributes:
        log_level: The least level that is logged.
        otlp_endpoint: Where spans go by OTLP over gRPC, such as `http://collector:4317`; none sends
            nothing, and trace ids still stand in logs, rows and headers.
        otlp_timeout_seconds: The longest one export may take.
        sample_ratio: The share of traces begun here that is sent. A caller's decision is kept.
        metrics_host: Address on which a service without HTTP shows its metrics.
        metrics_port: Port for it; none opens no port, 0 takes any free one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    log_level: LogLevel = "INFO"
    otlp_endpoint: str | None = None
    otlp_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None

    @model_validator(mode="after")
    def _endpoint_names_its_scheme(self) -> Self:
        # Without a scheme the exporter would pick TLS or not by rules of its own.
        if self.otlp_endpoint is not None and not self.otlp_endpoint.startswith(
            ("http://", "https://")
        ):
            raise ValueError("otlp_endpoint begins with http:// or https://")
        return self
