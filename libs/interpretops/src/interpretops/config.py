"""The settings of one installation: `config.yaml`, strictly read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interpretops.yaml_source import validate_yaml

PLATFORM_SECTIONS = frozenset(
    {
        "audit",
        "dashboard",
        "database",
        "edge",
        "grpc",
        "jobs",
        "objects",
        "redis",
        "security",
        "services",
        "steering",
        "telemetry",
        "watch",
    }
)
"""Sections that services read; one file may hold both their settings and the engine's."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Section):
    """Which model, how precise, and where it runs.

    Attributes:
        name: Hub id, local folder, `.gguf` file or built-in model.
        dtype: `auto` is bfloat16 where it is the faster one (CUDA, CPUs with AMX), else float32.
        device: `auto` is CUDA where there is one, else the CPU.
    """

    name: str = Field(default="builtin:smollm2-135m-instruct", min_length=1)
    dtype: str = Field(default="auto", pattern="^(auto|float32|bfloat16|float16)$")
    device: str = Field(default="auto", min_length=1)


class CacheConfig(_Section):
    """Where artifacts, drafts and converted weights are kept on this machine."""

    dir: Path = Path("./.io_cache")


class StoreConfig(_Section):
    """Where the platform keeps rows and objects; the engine on its own uses `cache.dir`."""

    postgres_dsn: str | None = None
    s3_endpoint: str | None = None
    s3_bucket: str | None = None


class RuntimeConfig(_Section):
    """What steering may cost, and what a token costs.

    Attributes:
        max_latency_overhead_pct: The most that steering may slow generation down, in percent.
        price_per_hour: What the serving machine costs per hour, for cost per thousand requests.
        currency: The currency of that price.
        memory_mb: Bound on activations held in memory while tracing.
    """

    max_latency_overhead_pct: float = Field(default=20, ge=0, le=1000)
    price_per_hour: float = Field(default=0.0, ge=0)
    currency: str = Field(default="AUD", pattern="^[A-Z]{3}$")
    memory_mb: int = Field(default=512, ge=16)


class ComplianceConfig(_Section):
    """What happens to personal information, and how long what was made is kept.

    Attributes:
        pii_redaction: Whether it is removed before anything is kept.
        retention_days: How long artifacts are kept.
        retain_every_hours: How often a platform looks for what has had its time; `mechctl artifacts gc`
            does when it is told to.
    """

    pii_redaction: bool = True
    retention_days: int = Field(default=14, ge=1, le=3650)
    retain_every_hours: float = Field(default=1, gt=0, le=168)


class Config(_Section):
    """All settings; every one has a default that works on a laptop."""

    model: ModelConfig = ModelConfig()
    cache: CacheConfig = CacheConfig()
    store: StoreConfig = StoreConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    compliance: ComplianceConfig = ComplianceConfig()

    @model_validator(mode="before")
    @classmethod
    def _leave_the_platforms_sections(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {key: part for key, part in content.items() if key not in PLATFORM_SECTIONS}


def load_config(path: Path | None) -> Config:
    """The settings in a file, or the defaults where no file is given.

    Raises:
        InterpretOpsError: When the file is missing or any key in it is unknown or out of range; the
            message names the line, the key and the fix.
    """
    return Config() if path is None else validate_yaml(Config, path)
