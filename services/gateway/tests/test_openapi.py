"""The OpenAPI document, and requests made up from it against a running edge."""

import asyncio
import threading
from datetime import UTC, datetime

import hypothesis
import pytest
import schemathesis
import uvicorn
from interpretops_gateway.app import api_routes, create_app
from interpretops_platform.database.engine import Database
from interpretops_platform.database.session import tenant_session
from interpretops_platform.edge_settings import EdgeSettings
from interpretops_platform.security import keys
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.key_store import add_key
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import Role
from interpretops_platform.settings import (
    CacheSettings,
    ObjectsSettings,
    RedisSettings,
    SecuritySettings,
    Settings,
)
from interpretops_platform.testing import _available, _redis_url, add_tenant
from schemathesis.specs.openapi.checks import (
    positive_data_acceptance,
    unsupported_method,
)

from services.gateway.tests.doubles import (
    Steering,
    circuit_double,
    drift_double,
    job_services,
    running,
    steering_service,
)

DOCUMENT = create_app(Settings()).openapi()
# Rules that span fields, and artifacts that must be there, are in no schema.
NOT_HELD = [positive_data_acceptance, unsupported_method]


@pytest.fixture(scope="module")
def running_edge(postgres_server, tmp_path_factory):
    """Address and headers of an edge with all its services, in a thread of its own."""
    folder = tmp_path_factory.mktemp("edge")
    name = f"test_openapi_{folder.name.replace('-', '_')}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_server.template}")
    Peppers.create(folder / "peppers")
    create_key_file(folder / "identity")
    base = postgres_server.settings(name)
    settings = base.model_copy(
        update={
            "model": {"name": "tiny"},
            "redis": RedisSettings(url=_available("redis", _redis_url)),
            "security": SecuritySettings(pepper_file=folder / "peppers"),
            "objects": ObjectsSettings(folder=folder / "objects"),
            "cache": CacheSettings(dir=folder / "cache"),
            "grpc": base.grpc.model_copy(update={"identity_keys": folder / "identity"}),
            "edge": EdgeSettings(
                max_wait_seconds=0.1, requests_per_second=1e5, request_burst=10**5
            ),
        }
    )
    ready, stop, found = threading.Event(), threading.Event(), {}

    async def serve():
        database = Database(settings, name="test")
        tenant = await add_tenant(database, "ours")
        issued = keys.issue(
            tenant_id=tenant,
            name="fuzzer",
            roles=[Role.ADMIN],
            peppers=Peppers.from_file(folder / "peppers"),
            now=datetime.now(UTC),
        )
        async with tenant_session(database, tenant) as session:
            await add_key(session, issued.record)
        steering = steering_service(Steering(database, settings))
        engine = [circuit_double(settings, database), drift_double(settings, database)]
        async with (
            job_services(settings, database) as services,
            running([*services, steering, *engine], settings) as whole,
        ):
            config = uvicorn.Config(create_app(whole), port=0, log_config=None)
            server = uvicorn.Server(config)
            serving = asyncio.ensure_future(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            found["address"] = f"http://127.0.0.1:{port}"
            found["headers"] = {"authorization": f"Bearer {issued.token.text}"}
            ready.set()
            await asyncio.to_thread(stop.wait)
            server.should_exit = True
            await serving
        await database.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(600)
    yield found["address"], found["headers"]
    stop.set()
    thread.join()
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def made_up(examples):
    """Makes a test of that many requests to each operation, the same ones each time."""
    config = schemathesis.Config.from_dict(
        {
            "generation": {"max-examples": examples},
            "phases": {"coverage": {"enabled": False}, "stateful": {"enabled": False}},
        }
    )
    schema = schemathesis.openapi.from_dict(DOCUMENT, config=config)
    the_same = hypothesis.settings(
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )

    def decorate(test):
        chosen = schema.exclude(path_regex="/keys/{prefix}|/events")
        return chosen.parametrize()(the_same(test))

    return decorate


def require_as_documented(case, running_edge):
    address, headers = running_edge
    answer = case.call(base_url=address, headers=headers)
    case.validate_response(answer, excluded_checks=NOT_HELD, headers=headers)
    assert "Traceback" not in answer.text
    assert answer.status_code < 500, answer.text


@made_up(4)
def test_made_up_requests_are_answered_as_documented(case, running_edge):
    require_as_documented(case, running_edge)


@pytest.mark.slow
@made_up(30)
def test_many_made_up_requests_are_answered_as_documented(case, running_edge):
    require_as_documented(case, running_edge)


def test_every_route_teaches():
    for route in api_routes(create_app(Settings())):
        for method in route.methods:
            operation = DOCUMENT["paths"][route.path_format][method.lower()]
            assert operation["summary"]
            assert operation["description"], route.path
            assert len(operation["tags"]) == 1, route.path
            assert "default" in operation["responses"]
    told = {tag["name"] for tag in DOCUMENT["tags"]}
    used = {
        tag for path in DOCUMENT["paths"].values() for item in path.values() for tag in item["tags"]
    }
    assert used == told


def test_specs_are_documented_by_the_contracts_comments():
    schemas = DOCUMENT["components"]["schemas"]
    dtype = schemas["TraceSpec"]["properties"]["sites"]
    assert dtype["description"] == "Where to read, such as `resid_post.12`."
    assert schemas["DictionarySpec"]["properties"]["kind"]["anyOf"][0]["enum"] == [
        "topk",
        "batch_topk",
        "jumprelu",
        "gated",
    ]
    assert "spec" in schemas["TraceBody"]["required"]
