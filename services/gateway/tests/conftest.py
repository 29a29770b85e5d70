"""The edge on real servers: PostgreSQL, Valkey, objects in a folder, and services by gRPC."""

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from interpretops_gateway.app import create_app
from interpretops_platform.artifacts import register, upload
from interpretops_platform.database.session import tenant_session
from interpretops_platform.security import keys
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.key_store import add_key
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import Role
from interpretops_platform.settings import CacheSettings, ObjectsSettings, SecuritySettings
from interpretops_platform.tenants import TenantStores
from interpretops_platform.testing import (  # noqa: F401 - fixtures and a hook
    add_tenant,
    broker_settings,
    database,
    postgres_server,
    pytest_terminal_summary,
    redis_url,
)

from services.gateway.tests.doubles import (
    Steering,
    circuit_double,
    drift_double,
    job_services,
    running,
    steering_service,
)
from services.gateway.tests.folders import (
    CARDS,
    CIRCUIT,
    DICTIONARY,
    GRAPH,
    SITE,
    TRACE,
    exported,
)


@pytest.fixture(scope="session")
def settings(postgres_server):
    """Settings with a database that all these tests share; what keeps them apart is their tenants."""
    name = f"test_gateway_{uuid4().hex[:12]}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_server.template}")
    yield postgres_server.settings(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def tenant_id(database):
    """A tenant of this test alone."""
    return await add_tenant(database, f"ours-{uuid4()}")


@pytest_asyncio.fixture
async def other_tenant_id(database):
    """Another one, whose data must stay out of reach."""
    return await add_tenant(database, f"theirs-{uuid4()}")


@pytest.fixture
def edge_settings(broker_settings, tmp_path):
    Peppers.create(tmp_path / "peppers")
    create_key_file(tmp_path / "identity")
    return broker_settings.model_copy(
        update={
            "security": SecuritySettings(pepper_file=tmp_path / "peppers"),
            "objects": ObjectsSettings(folder=tmp_path / "objects"),
            "cache": CacheSettings(dir=tmp_path / "cache"),
            "grpc": broker_settings.grpc.model_copy(
                update={"identity_keys": tmp_path / "identity", "retry_initial_seconds": 0.01}
            ),
        }
    )


@asynccontextmanager
async def serving(settings):
    """The application without a socket; its URL is `http://edge`."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            client.app = app
            yield client


@pytest.fixture
def steering(edge_settings, database):
    """The steering gateway of this test."""
    return Steering(database, edge_settings)


@pytest_asyncio.fixture
async def whole_settings(edge_settings, database, steering):
    """Settings of an edge whose services all run."""
    async with (
        job_services(edge_settings, database) as services,
        running(
            [
                *services,
                steering_service(steering),
                circuit_double(edge_settings, database),
                drift_double(edge_settings, database),
            ],
            edge_settings,
        ) as settings,
    ):
        yield settings.model_copy(update={"model": {"name": "tiny"}})


@pytest_asyncio.fixture
async def edge(whole_settings):
    """A client of the edge that says nothing about who it is."""
    async with serving(whole_settings) as client:
        yield client


@pytest.fixture
def issue(edge_settings, database):
    """Makes a key: `await issue(tenant_id, Role.VIEWER)` gives its headers."""

    async def make(tenant, role=Role.ADMIN, *, name="tests", now=None, **options):
        issued = keys.issue(
            tenant_id=tenant,
            name=name,
            roles=[role],
            peppers=Peppers.from_file(edge_settings.security.pepper_file),
            now=now or datetime.now(UTC),
            **options,
        )
        async with tenant_session(database, tenant) as session:
            await add_key(session, issued.record)
        return {"authorization": f"Bearer {issued.token.text}"}

    return make


@pytest_asyncio.fixture
async def admin(issue, tenant_id):
    """Headers of an admin of our tenant."""
    return await issue(tenant_id, name="admin")


@pytest_asyncio.fixture
async def stranger(issue, other_tenant_id):
    """Headers of an admin of another tenant."""
    return await issue(other_tenant_id, name="stranger")


@pytest.fixture
def keep(edge_settings, database, tmp_path):
    """Keeps an artifact: `await keep(tenant_id, id, kind, files, parents)`."""

    async def run(tenant, artifact_id, kind, files, parents=()):
        folder = exported(tmp_path / f"{tenant}" / artifact_id, artifact_id, kind, files, parents)
        async with tenant_session(database, tenant) as session:
            store = await TenantStores(edge_settings).open(session)
            await register(session, tenant, upload(store, folder), retention=timedelta(days=1))

    return run


@pytest_asyncio.fixture
async def circuit(keep, tenant_id):
    await keep(tenant_id, TRACE, "trace", {"a.json": b"{}"})
    files = {"circuit.json": json.dumps(GRAPH).encode(), "deep/big.json": b"1" * 3_000_000}
    await keep(tenant_id, CIRCUIT, "circuit", files, [TRACE])
    return CIRCUIT


@pytest_asyncio.fixture
async def dictionary(keep, tenant_id):
    files = {
        "dictionary.json": json.dumps({"sites": [SITE]}).encode(),
        f"{SITE}/cards.json": json.dumps(CARDS).encode(),
    }
    await keep(tenant_id, DICTIONARY, "dictionary", files)
    return DICTIONARY
