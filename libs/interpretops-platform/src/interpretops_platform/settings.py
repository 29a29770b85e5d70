"""The settings of one installation, for every service: `config.yaml`, then the environment.

A variable wins over the file: `INTERPRETOPS_JOBS__LEASE_SECONDS=60` sets `jobs.lease_seconds`. So does
a file of that name (in any case) in the folder that `INTERPRETOPS_SECRETS_DIR` names, which is how
orchestrators hand over secrets; the environment wins over it.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from interpretops_platform.audit_settings import AuditSettings
from interpretops_platform.dashboard_settings import DashboardSettings
from interpretops_platform.edge_settings import EdgeSettings
from interpretops_platform.errors import SettingsError
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.security.tokens import OidcSettings
from interpretops_platform.security.uris import UriSettings
from interpretops_platform.steering_settings import SteeringSettings
from interpretops_platform.telemetry.settings import TelemetrySettings
from interpretops_platform.watch_settings import WatchSettings

APP_ROLE = "interpretops_app"
"""The database role of requests and tasks: owns nothing, sees one tenant at a time."""
SYSTEM_ROLE = "interpretops_system"
"""The database role of relay, reaper and claim: all tenants, only the tables of jobs."""
SCALER_ROLE = "interpretops_scaler"
"""The database role of an autoscaler: it counts unfinished jobs by kind."""

_DEFAULT_MODEL = "builtin:smollm2-135m-instruct"  # the engine's
_SECRETS_DIR = "INTERPRETOPS_SECRETS_DIR"
_BUCKET = "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CacheSettings(_Section):
    """Where files that can be had again are kept on this machine."""

    dir: Path = Path("./.io_cache")


class StoreSettings(_Section):
    """The short way to name the stores; the sections `database` and `objects` say more."""

    postgres_dsn: SecretStr | None = None
    s3_endpoint: str | None = None
    s3_bucket: str | None = Field(default=None, pattern=_BUCKET)


class ComplianceSettings(_Section):
    """What happens to personal information, and how long rows and objects are kept.

    Attributes:
        pii_redaction: Whether it is removed before anything is kept.
        retention_days: How long artifacts, finished jobs and retired policies are kept.
        retain_every_hours: How often the keeper looks for what has had its time.
    """

    pii_redaction: bool = True
    retention_days: int = Field(default=14, ge=1, le=3650)
    retain_every_hours: float = Field(default=1, gt=0, le=168)

    @property
    def retention(self) -> timedelta:
        """How long artifacts, finished jobs and retired policies are kept."""
        return timedelta(days=self.retention_days)


class DatabaseSettings(_Section):
    """Three logins on one PostgreSQL 14+ database.

    Attributes:
        owner_dsn: Owns the tables; only migrations use it. Default: `store.postgres_dsn`.
        app_dsn: The login of requests and tasks. Default: the owner's address as `interpretops_app`.
        system_dsn: The login of relay, reaper and claim, likewise as `interpretops_system`.
        app_password: Password of the app role where its address is derived.
        system_password: Password of the system role where its address is derived.
        scaler_password: Password that migrations give to the role of an autoscaler, where there is one.
        pool_size: Connections kept open per process and login.
        statement_timeout_seconds: The longest one statement may take.
        idle_in_transaction_seconds: A process frozen inside a transaction loses its locks after this.
    """

    owner_dsn: SecretStr | None = None
    app_dsn: SecretStr | None = None
    system_dsn: SecretStr | None = None
    app_password: SecretStr | None = None
    system_password: SecretStr | None = None
    scaler_password: SecretStr | None = None
    pool_size: int = Field(default=5, ge=1, le=100)
    statement_timeout_seconds: Seconds = 30
    idle_in_transaction_seconds: Seconds = 15


class RedisSettings(_Section):
    """The broker of hints; nothing in it is missed when it is emptied.

    Attributes:
        url: Address of Redis or Valkey, with password and database number where there are any.
        visibility_timeout_seconds: After this Redis hands a hint that was taken but not
            acknowledged to another worker. It must be the same in every process.
    """

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    visibility_timeout_seconds: int = Field(default=3600, ge=1)


class ObjectsSettings(_Section):
    """Where objects are kept: a bucket where one is named, else a folder.

    Attributes:
        folder: For one machine, or a file system that all machines share.
        endpoint: Address of an S3 server. Default: `store.s3_endpoint`.
        bucket: A bucket there. Default: `store.s3_bucket`.
        region: Region of the bucket; none asks the server.
        access_key: With `secret_key` the login; without, the role of the machine is used.
        secret_key: See `access_key`.
        path_style: Whether the bucket is named in the path, as MinIO wants it, or in the host.
        sse: Encryption at rest by the server, beside the sealing of tenants.
        kms_key_id: The key for `sse: kms`.
        part_mb: Size of the parts of a large upload.
    """

    folder: Path = Path("./.io_objects")
    endpoint: str = "https://s3.amazonaws.com"
    bucket: str | None = Field(default=None, pattern=_BUCKET)
    region: str | None = None
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    path_style: bool = True
    sse: Literal["none", "s3", "kms"] = "none"
    kms_key_id: str | None = None
    part_mb: int = Field(default=16, ge=5, le=512)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key go together")
        if (self.sse == "kms") != (self.kms_key_id is not None):
            raise ValueError("kms_key_id belongs to sse: kms")
        return self


class SecuritySettings(_Section):
    """Keys of the installation.

    Attributes:
        master_key_file: Wraps the data keys of tenants; without one objects are not sealed.
        master_key_kms: Id, alias or ARN of an AWS KMS key that wraps them instead; a file beside it
            only unwraps.
        pepper_file: Secrets that API keys are hashed with; the edge accepts none without them.
        oidc: The identity provider whose tokens the edge accepts beside API keys.
        separation_of_duties: Whether a policy needs an approver who is not its author, and somebody
            other than its author to activate it.
        uris: What callers may have this installation read or reach.
    """

    master_key_file: Path | None = None
    master_key_kms: str | None = None
    pepper_file: Path | None = None
    oidc: OidcSettings | None = None
    separation_of_duties: bool = True
    uris: UriSettings = UriSettings()


class JobsSettings(_Section):
    """How jobs are kept alive and how often they are tried.

    Attributes:
        lease_seconds: A worker silent for this long has lost its job.
        heartbeat_seconds: How often a worker renews its lease.
        relay_seconds: How often the relay looks for jobs to announce.
        hint_seconds: A queued job announced longer ago than this is announced again.
        reaper_seconds: How often expired leases are looked for.
        retry_seconds: Delay before the second attempt; it doubles with each further one.
        progress_seconds: The least time between two progress rows of one job.
        drain_seconds: On shutdown, how long a job may go on before it is handed back.
        watch_seconds: How often a watched job is looked at.
        time_limit_seconds: A process whose attempt takes longer is killed; none lets it run.
        checkpoint_seconds: The least time between two checkpoints of one job.
        kinds: Kinds of jobs that metrics show by name; others are shown together.
        mark_pod: Whether a worker in Kubernetes marks its pod while a job runs, so that autoscalers
            spare it. Its service account must be allowed to patch that pod.
    """

    lease_seconds: Seconds = 30
    heartbeat_seconds: Seconds = 8
    relay_seconds: Seconds = 0.2
    hint_seconds: Seconds = 30
    reaper_seconds: Seconds = 5
    retry_seconds: Seconds = 5
    progress_seconds: Seconds = 1
    drain_seconds: Seconds = 20
    watch_seconds: Seconds = 0.5
    time_limit_seconds: Seconds | None = None
    checkpoint_seconds: Seconds = 20
    kinds: tuple[str, ...] = ("trace", "sae", "circuit", "policy", "eval", "report")
    mark_pod: bool = False

    @model_validator(mode="after")
    def _heartbeats_fit(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("heartbeat_seconds must be at most half of lease_seconds")
        return self


class ServicesSettings(_Section):
    """Where each service listens, as gRPC names it: `dns:///tracer:50051`.

    By default all are on this machine, each at its own port.
    """

    tracer: str = "dns:///127.0.0.1:50051"
    sae_trainer: str = "dns:///127.0.0.1:50052"
    circuit_search: str = "dns:///127.0.0.1:50053"
    steering_gateway: str = "dns:///127.0.0.1:50054"
    evaluator: str = "dns:///127.0.0.1:50055"
    reporter: str = "dns:///127.0.0.1:50056"


class Settings(BaseSettings):
    """All settings of the platform; the engine reads `model` and `runtime` by itself."""

    model_config = SettingsConfigDict(
        env_prefix="INTERPRETOPS_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    model: dict[str, Any] = Field(default_factory=dict, description="Validated by the engine.")
    runtime: dict[str, Any] = Field(default_factory=dict, description="Validated by the engine.")
    cache: CacheSettings = CacheSettings()
    store: StoreSettings = StoreSettings()
    compliance: ComplianceSettings = ComplianceSettings()
    audit: AuditSettings = AuditSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    objects: ObjectsSettings = ObjectsSettings()
    security: SecuritySettings = SecuritySettings()
    jobs: JobsSettings = JobsSettings()
    grpc: GrpcSettings = GrpcSettings()
    services: ServicesSettings = ServicesSettings()
    edge: EdgeSettings = EdgeSettings()
    steering: SteeringSettings = SteeringSettings()
    dashboard: DashboardSettings = DashboardSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    watch: WatchSettings = WatchSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the interface names them all
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Settings made in code are what the code says; `load_settings` adds the environment."""
        return (init_settings,)

    def owner_url(self) -> URL:
        """Address for migrations.

        Raises:
            SettingsError: When no owner is configured or its address cannot be read.
        """
        dsn = self.database.owner_dsn or self.store.postgres_dsn
        if dsn is None:
            raise SettingsError(
                "no database owner is configured",
                fix="set database.owner_dsn (INTERPRETOPS_DATABASE__OWNER_DSN)",
            )
        return _asyncpg_url(dsn, "database.owner_dsn")

    def app_url(self) -> URL:
        """Address for requests and tasks.

        Raises:
            SettingsError: When it is neither configured nor derivable.
        """
        return self._role_url("app", self.database.app_dsn, self.database.app_password, APP_ROLE)

    def system_url(self) -> URL:
        """Address for relay, reaper and claim.

        Raises:
            SettingsError: When it is neither configured nor derivable.
        """
        database = self.database
        return self._role_url("system", database.system_dsn, database.system_password, SYSTEM_ROLE)

    def object_settings(self) -> ObjectsSettings:
        """The section `objects`, with what the section `store` says where it says nothing."""
        short = {"endpoint": self.store.s3_endpoint, "bucket": self.store.s3_bucket}
        missing = {
            name: value
            for name, value in short.items()
            if value is not None and name not in self.objects.model_fields_set
        }
        return self.objects.model_copy(update=missing)

    def served_models(self) -> dict[str, str]:
        """From the names that requests give to the models that answer."""
        name = str(self.model.get("name") or _DEFAULT_MODEL)
        short = name.removeprefix("builtin:").rstrip("/").rpartition("/")[2]
        return self.steering.models or {short: name}

    def served_name(self, model: str | None) -> str | None:
        """How requests call a model that is named as `model.name` is, or as requests do.

        Args:
            model: None stands for that of `model.name`.

        Returns:
            The model itself where it does not answer under another name; None where none is meant.
        """
        wanted = model or self.model.get("name")
        served = self.served_models()
        if wanted in served:
            return wanted
        return next((name for name, source in served.items() if source == wanted), wanted)

    def _role_url(
        self, name: str, dsn: SecretStr | None, password: SecretStr | None, role: str
    ) -> URL:
        if dsn is not None:
            return _asyncpg_url(dsn, f"database.{name}_dsn")
        if password is None:
            raise SettingsError(
                f"there is no way to log in to the database as {role}",
                fix=f"set database.{name}_dsn, or database.{name}_password beside the owner's",
            )
        return self.owner_url().set(username=role, password=password.get_secret_value())


class _InstalledSettings(Settings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment over the file, so that a container changes one key of a mounted file.
        folder = os.environ.get(_SECRETS_DIR)
        if not folder:
            return env_settings, init_settings
        secrets = NestedSecretsSettingsSource(
            file_secret_settings,
            secrets_dir=folder,
            secrets_dir_missing="error",
        )
        return env_settings, secrets, init_settings


def load_settings(path: Path | None = None) -> Settings:
    """The settings in a file and the environment.

    Args:
        path: A `config.yaml`; none reads the environment only.

    Raises:
        SettingsError: When the file or the folder of secrets is missing, or a key is unknown or out
            of range; the message names the first key at fault and never the value, which may be a
            secret.
    """
    if path is not None and not path.is_file():
        raise SettingsError(f"there is no settings file {path}", fix="name one that exists")
    try:
        content = {} if path is None else YamlConfigSettingsSource(Settings, path)()
        return _InstalledSettings(**content)
    except SourceError as error:
        raise SettingsError(
            f"the settings cannot be read: {error}", fix=f"correct {_SECRETS_DIR} or the file"
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"setting {key or '(root)'}: {first['msg']}", fix="correct it or leave it out"
        ) from None


def _asyncpg_url(dsn: SecretStr, name: str) -> URL:
    try:
        return make_url(dsn.get_secret_value()).set(drivername="postgresql+asyncpg")
    except ArgumentError:
        raise SettingsError(
            f"{name} is no database address",
            fix="write it as postgresql://user:password@host:5432/database",
        ) from None
