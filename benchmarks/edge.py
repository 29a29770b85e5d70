"""How fast the edge is: `python -m benchmarks.edge [--address URL --key KEY]`.

Without an address it starts an installation on this machine: PostgreSQL, Valkey, a tracer's control
server, the keeper, a worker that does nothing, and the edge in two processes. The client shares the
machine, so what is measured is what is left of it.

- Authenticated GETs and submissions per second, with their latencies, over so many connections.
- What the edge adds to a gRPC call: submissions one after another, through it and without it.
- From the commit of a job to its claim by a worker, by the clock of the database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import yaml
from interpretops_platform.database.engine import Database
from interpretops_platform.database.session import tenant_session
from interpretops_platform.embedded import EmbeddedPostgres, EmbeddedValkey, temporary_folder
from interpretops_platform.rpc.call import acting_as
from interpretops_platform.rpc.client import Channels
from interpretops_platform.rpc.server import identity_tokens
from interpretops_platform.security import keys
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.key_store import add_key
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import Principal, Role
from interpretops_platform.settings import Settings, load_settings
from interpretops_platform.testing import add_tenant, migrated_server
from interpretops_protos.v1 import tracer_service_pb2, tracer_service_pb2_grpc

Working = Callable[[], AbstractContextManager[None]]

TRACE = {
    "model": "builtin:none",
    "prompts": ["What is the capital of France?"],
    "spec": {"sites": ["resid_post.1"]},
}
WORKER = """
import sys
from pathlib import Path
from interpretops_platform.jobs.worker import JobResult, work
from interpretops_platform.settings import load_settings
work(load_settings(Path(sys.argv[1])), {"trace": lambda context: JobResult()})
"""


class Connection:
    """One kept-alive HTTP/1.1 connection; leaner than a client library, so that the edge is measured."""

    def __init__(self, address: str, key: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"

    async def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and body of one request."""
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        content = b"" if body is None else json.dumps(body).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if content:
            lines += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\n{self._head}{lines}\r\n".encode() + content
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        if "content-length:" in head:
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            return status, await self._reader.readexactly(length)
        whole = b""
        while size := int((await self._reader.readline()).strip() or b"0", 16):
            whole += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return status, whole


def quantile(values: list[float], share: float) -> float:
    """The smallest value that so many of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def rate(
    address: str, key: str, seconds: float, connections: int, ask: Callable[[Connection], Any]
) -> dict[str, float]:
    """Requests per second and latencies (ms) over so many connections; the first second warms up."""
    taken: list[float] = []
    opened = [Connection(address, key) for _ in range(connections)]
    for connection in opened:
        await ask(connection)  # one by one: a burst of new ones would all go to one process
    counted_from = time.perf_counter() + 1
    end = counted_from + seconds

    async def drive(connection: Connection) -> None:
        while (began := time.perf_counter()) < end:
            status, body = await ask(connection)
            if status >= 300:
                raise SystemExit(f"the edge answered {status}: {body[:300]!r}")
            if began >= counted_from:
                taken.append(time.perf_counter() - began)

    await asyncio.gather(*(drive(connection) for connection in opened))
    return {
        "per_second": len(taken) / seconds,
        "p50_ms": quantile(taken, 0.5) * 1000,
        "p99_ms": quantile(taken, 0.99) * 1000,
        "n": len(taken),
    }


async def one_by_one(n: int, ask: Callable[[], Any]) -> list[float]:
    """Milliseconds of each of so many requests, one after another."""
    taken = []
    for _ in range(n):
        began = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


async def overhead(address: str, key: str, settings: Settings, caller: Principal, n: int) -> Any:
    """Submissions through the edge and without it, interleaved in blocks."""
    connection = Connection(address, key)
    through: list[float] = []
    direct: list[float] = []
    async with Channels(
        settings.grpc, identity=identity_tokens(settings.grpc), idempotent=[]
    ) as channels:
        stub = channels.stub(tracer_service_pb2_grpc.TracerServiceStub, settings.services.tracer)

        async def call() -> None:
            request = tracer_service_pb2.SubmitTraceRequest(idempotency_key=secrets.token_hex(16))
            request.model.name = TRACE["model"]
            request.prompts.inline.prompts.add(id="p", text=TRACE["prompts"][0])
            request.spec.sites.append("resid_post.1")
            with acting_as(caller):
                await stub.SubmitTrace(request)

        for block in range(11):
            first = await one_by_one(n // 10, lambda: connection.ask("POST", "/traces", TRACE))
            second = await one_by_one(n // 10, call)
            if block:  # the first one warms up
                through += first
                direct += second
    return {
        "edge_p50_ms": quantile(through, 0.5),
        "edge_p99_ms": quantile(through, 0.99),
        "grpc_p50_ms": quantile(direct, 0.5),
        "grpc_p99_ms": quantile(direct, 0.99),
        "added_p50_ms": quantile(through, 0.5) - quantile(direct, 0.5),
        "added_p99_ms": quantile(through, 0.99) - quantile(direct, 0.99),
    }


async def claims(address: str, key: str, n: int) -> dict[str, float]:
    """Milliseconds from the commit of a job to its claim, of jobs that find an idle worker.

    The first job is not counted: it waits until the worker has started.
    """
    connection = Connection(address, key)
    taken = []
    for _ in range(n + 1):
        _, body = await connection.ask("POST", "/traces", TRACE)
        job = json.loads(body)["id"]
        _, stream = await connection.ask("GET", f"/jobs/{job}/events")
        at = {}
        for block in stream.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                at[fields["event"]] = datetime.fromisoformat(json.loads(fields["data"])["at"])
        taken.append((at["started"] - at["queued"]).total_seconds() * 1000)
    del taken[0]
    return {"p50_ms": quantile(taken, 0.5), "p99_ms": quantile(taken, 0.99), "n": n}


@contextmanager
def installation() -> Iterator[tuple[str, str, Settings, Principal, Working]]:
    """Address, key, settings, caller, and a context in which keeper and worker run."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="interpretops-bench-")))
        postgres = EmbeddedPostgres(temporary_folder("interpretops-bench-pg-")).start()
        stack.callback(postgres.stop)
        valkey = EmbeddedValkey(folder / "valkey").start()
        stack.callback(valkey.stop)
        server = asyncio.run(migrated_server(postgres.url))
        Peppers.create(folder / "peppers")
        create_key_file(folder / "identity")
        database = server.settings(server.template).database
        config = folder / "config.yaml"
        content = {
            "database": {
                "owner_dsn": database.owner_dsn.get_secret_value(),
                "app_password": database.app_password.get_secret_value(),
                "system_password": database.system_password.get_secret_value(),
                "pool_size": 10,
            },
            "redis": {"url": valkey.url},
            "objects": {"folder": str(folder / "objects")},
            "cache": {"dir": str(folder / "cache")},
            "security": {"pepper_file": str(folder / "peppers")},
            "grpc": {"identity_keys": str(folder / "identity")},
            "edge": {
                "port": 0,
                "processes": 2,
                "requests_per_second": 1e5,
                "request_burst": 100000,
            },
            "telemetry": {"log_level": "INFO"},
        }
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump(content))
        settings = load_settings(config)
        key, caller = asyncio.run(admit(settings))

        def start(*program: str) -> tuple[subprocess.Popen[bytes], Path]:
            log = (folder / f"log-{secrets.token_hex(4)}").open("wb")
            process = subprocess.Popen([sys.executable, *program], stderr=log, stdout=log)
            stack.callback(stop, process)
            return process, Path(log.name)

        start("-m", "interpretops_service", "serve", "tracer", "--config", str(config))
        _, log = start("-m", "interpretops_gateway", "--config", str(config))
        address = address_in(log)

        @contextmanager
        def working() -> Iterator[None]:
            programs = [
                start("-m", "interpretops_platform", "keep", "--config", str(config)),
                start("-c", WORKER, str(config)),
            ]
            yield
            for process, _ in programs:
                stop(process)

        yield f"http://{address}", key, settings, caller, working


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program and wait for it."""
    process.terminate()
    process.wait()


async def admit(settings: Settings) -> tuple[str, Principal]:
    """A tenant, and the key of an operator of it."""
    database = Database(settings, name="benchmark")
    tenant = await add_tenant(database, "benchmark")
    assert settings.security.pepper_file is not None
    issued = keys.issue(
        tenant_id=tenant,
        name="benchmark",
        roles=[Role.OPERATOR],
        peppers=Peppers.from_file(settings.security.pepper_file),
        now=datetime.now(UTC),
    )
    async with tenant_session(database, tenant) as session:
        await add_key(session, issued.record)
    await database.close()
    return issued.token.text, Principal.of(tenant, "key:benchmark", [Role.OPERATOR])


def address_in(log: Path) -> str:
    """Where the edge says that it listens."""
    for _ in range(600):
        for line in log.read_bytes().splitlines():
            if b'"listening"' in line:
                return str(json.loads(line)["address"])
        time.sleep(0.1)
    raise SystemExit(f"the edge does not start: {log.read_text()[-500:]}")


async def until_ready(address: str, key: str, *, services: tuple[str, ...]) -> None:
    """Wait until the edge and these services answer."""
    for _ in range(600):
        try:
            _, body = await Connection(address, key).ask("GET", "/readyz")
            checks = json.loads(body)["checks"]
            if all(checks[name] == "ok" for name in ("database", *services)):
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.5)
    raise SystemExit("the edge does not become ready")


async def measure(
    address: str,
    key: str,
    seconds: float,
    connections: int,
    inside: tuple[Settings, Principal, Working] | None,
) -> dict[str, Any]:
    """All figures, by what they are about."""
    await until_ready(address, key, services=("tracer",))
    found: dict[str, Any] = {}
    # First, while no other job waits.
    if inside is None:
        found["commit to claim"] = await claims(address, key, 30)
    else:
        settings, caller, working = inside
        with working():
            found["commit to claim"] = await claims(address, key, 30)
        found["edge to gRPC"] = await overhead(address, key, settings, caller, 200)
    _, body = await Connection(address, key).ask("POST", "/traces", TRACE)
    job = json.loads(body)["id"]
    paths = {
        "GET /whoami": "/whoami",
        "GET /jobs/{id}": f"/jobs/{job}",
        "GET /jobs": "/jobs?limit=20",
    }
    for name, path in paths.items():
        found[name] = await rate(
            address, key, seconds, connections, lambda c, path=path: c.ask("GET", path)
        )
    found["POST /traces"] = await rate(
        address, key, seconds, connections, lambda c: c.ask("POST", "/traces", TRACE)
    )
    return found


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edge", description=__doc__)
    parser.add_argument("--address", help="a running edge, such as http://127.0.0.1:8080")
    parser.add_argument("--key", help="an operator's API key there")
    parser.add_argument("--seconds", type=float, default=10, help="per figure")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    if options.address:
        found = asyncio.run(
            measure(options.address, options.key, options.seconds, options.connections, None)
        )
    else:
        # A signal ends what was started too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        with installation() as (address, key, settings, caller, working):
            inside = (settings, caller, working)
            found = asyncio.run(measure(address, key, options.seconds, options.connections, inside))
    print(json.dumps({"load_average": os.getloadavg()[0], **found}, indent=2))


if __name__ == "__main__":
    main()
