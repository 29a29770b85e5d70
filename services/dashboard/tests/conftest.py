"""The dashboard's server in front of a real edge."""

import threading
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import pytest_asyncio
import uvicorn
from interpretops_dashboard.app import create_app
from interpretops_gateway.app import create_app as create_edge
from interpretops_platform.dashboard_settings import DashboardSettings
from interpretops_platform.database.session import tenant_session
from interpretops_platform.security import keys
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.key_store import add_key
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import Role
from interpretops_platform.settings import CacheSettings, ObjectsSettings, SecuritySettings
from interpretops_platform.testing import (  # noqa: F401 - fixtures and a hook
    broker_settings,
    database,
    postgres_server,
    pytest_terminal_summary,
    redis_url,
    settings,
    tenant_id,
)

PAGE = b"""<!doctype html><html><head><meta property="csp-nonce" content="__CSP_NONCE__"/>
<script>one()</script><script src="/_next/static/a.js"></script></head>
<body><script>two("</p>")</script></body></html>"""

OURS = {"x-interpretops": "1"}


@pytest.fixture
def pages(tmp_path):
    """A small export."""
    folder = tmp_path / "pages"
    (folder / "_next" / "static").mkdir(parents=True)
    (folder / "index.html").write_bytes(PAGE)
    (folder / "jobs.html").write_bytes(PAGE.replace(b"one", b"jobs"))
    (folder / "404.html").write_bytes(PAGE.replace(b"one", b"nothing"))
    (folder / "_next" / "static" / "a.js").write_text("let a = 1;" * 100)
    return folder


@contextmanager
def served(app):
    """The address of an application, served by a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def edge_settings(broker_settings, database, tmp_path):
    """Settings of an edge whose services are away: sessions and reads need none of them."""
    Peppers.create(tmp_path / "peppers")
    create_key_file(tmp_path / "identity")
    return broker_settings.model_copy(
        update={
            "security": SecuritySettings(pepper_file=tmp_path / "peppers"),
            "objects": ObjectsSettings(folder=tmp_path / "objects"),
            "cache": CacheSettings(dir=tmp_path / "cache"),
            "grpc": broker_settings.grpc.model_copy(
                update={"identity_keys": tmp_path / "identity"}
            ),
        }
    )


@pytest.fixture
def edge(edge_settings):
    """The address of the edge."""
    with served(create_edge(edge_settings)) as address:
        yield address


@asynccontextmanager
async def browsing(settings, pages, **options):
    """A browser, more or less: it keeps cookies, and sends what a page of ours would."""
    app = create_app(settings, pages=pages)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://dashboard:8090", headers=OURS, **options
        ) as client:
            yield client


@pytest_asyncio.fixture
async def browser(edge_settings, edge, pages):
    """A browser that nobody has signed in with."""
    dashboard = DashboardSettings(api=edge)
    async with browsing(edge_settings.model_copy(update={"dashboard": dashboard}), pages) as client:
        yield client


@pytest.fixture
def issue(edge_settings, database, tenant_id):
    """Makes a key of the tenant."""

    async def make(role=Role.ADMIN, name="ada"):
        issued = keys.issue(
            tenant_id=tenant_id,
            name=name,
            roles=[role],
            peppers=Peppers.from_file(edge_settings.security.pepper_file),
            now=datetime.now(UTC),
        )
        async with tenant_session(database, tenant_id) as session:
            await add_key(session, issued.record)
        return issued.token.text

    return make


@pytest_asyncio.fixture
async def signed_in(browser, issue):
    """A browser that an admin has signed in with."""
    answer = await browser.post("/session", json={"key": await issue()})
    assert answer.status_code == 200
    return browser
