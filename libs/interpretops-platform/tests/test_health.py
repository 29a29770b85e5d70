"""Whoever watches a program learns whether it is ready, not only whether it runs."""

import asyncio
import http.server
import threading

import pytest
from interpretops_platform.__main__ import main
from interpretops_platform.errors import SettingsError
from interpretops_platform.health import is_healthy
from interpretops_platform.rpc.server import RpcServer, Service
from interpretops_platform.rpc.settings import GrpcSettings
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.principal import Scope
from interpretops_platform.settings import ServicesSettings, Settings
from interpretops_protos.v1 import job_service_pb2, job_service_pb2_grpc

JOBS = job_service_pb2.DESCRIPTOR.services_by_name["JobService"]
SERVICE = Service(
    JOBS,
    job_service_pb2_grpc.add_JobServiceServicer_to_server,
    job_service_pb2_grpc.JobServiceServicer(),
    {method.name: Scope.JOBS_READ for method in JOBS.methods},
)


async def test_a_service_is_healthy_once_it_is_ready(tmp_path):
    create_key_file(tmp_path / "keys")
    ready = asyncio.Event()

    async def is_ready():
        return ready.is_set()

    grpc = GrpcSettings(identity_keys=tmp_path / "keys", readiness_seconds=0.05)
    server = RpcServer([SERVICE], grpc, ready=is_ready)
    await server.start()
    address = f"dns:///tracer:{server.port}"
    settings = Settings(services=ServicesSettings(tracer=address))
    assert not await asyncio.to_thread(is_healthy, "tracer", settings)
    ready.set()
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(is_healthy, "tracer", settings):
            await asyncio.sleep(0.05)
    await server.stop()
    assert not await asyncio.to_thread(is_healthy, "tracer", settings)


@pytest.mark.parametrize("status", [200, 503])
def test_the_edge_is_healthy_when_it_says_so(status):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = Settings(edge={"port": server.server_port})
        assert is_healthy("edge", settings) == (status == 200)
        server.shutdown()


def test_a_program_that_is_unknown_or_away_is_said(capsys, monkeypatch):
    with pytest.raises(SettingsError, match="edge, circuit_search"):
        is_healthy("kitchen", Settings())
    monkeypatch.setenv("INTERPRETOPS_SERVICES__TRACER", "dns:///127.0.0.1:9")
    assert main(["healthy", "tracer"]) == 1
    assert main(["healthy", "kitchen"]) == 2
    assert "Fix: " in capsys.readouterr().err
