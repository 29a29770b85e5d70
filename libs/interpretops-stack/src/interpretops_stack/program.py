"""A program of the stack, declared: what to run, when it is ready, and how it ends."""

from __future__ import annotations

import http.client
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Program:
    """One process of the stack.

    Attributes:
        name: How it is called in tables and logs; unique.
        what: What it does, in a few words.
        command: Its command line.
        stage: Programs of one stage start together, once all earlier stages are ready, and end after
            those of later stages.
        start_stage: Where it starts at an earlier stage than its own, which is still the one that
            waits for it: it takes a while before it needs the others.
        ready: Whether it does what it is for; without it, running is enough.
        once: It is a task: ready when it has ended with status 0, and never started again.
        port: Where it listens, if it does.
        environment: Variables beside those of the supervisor.
        folder: Where it runs.
        user: The account it runs as, where that is another one.
        stop_signal: Asks it to end.
        grace_seconds: How long it may take to end by itself.
    """

    name: str
    what: str
    command: tuple[str, ...]
    stage: int
    start_stage: int | None = None
    ready: Callable[[], bool] | None = None
    once: bool = False
    port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    grace_seconds: float = 30

    @property
    def starts_at(self) -> int:
        """The stage at which it starts."""
        return self.stage if self.start_stage is None else self.start_stage


def serves_grpc(port: int) -> Callable[[], bool]:
    """A check that a gRPC server on this machine says SERVING."""

    def check() -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=(_FRESH,)) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=1
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return check


def answers_http(port: int, path: str) -> Callable[[], bool]:
    """A check that an HTTP server on this machine answers a path with 200."""

    def check() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


_FRESH = ("grpc.use_local_subchannel_pool", 1)  # no back-off remembered from an earlier check
