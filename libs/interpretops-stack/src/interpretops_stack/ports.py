"""Ports: which are free, and who has the one that is not."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Below the range from which outgoing connections are given theirs, so that none of those takes one.
_LOW, _HIGH = 20_000, 30_000


def is_free(port: int) -> bool:
    """Whether a server could listen at this port of the loopback interface now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port_from(port: int) -> int:
    """The first free port from this one on."""
    while not is_free(port):
        port += 1
    return port


def free_ports(names: Iterable[str], before: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name, the one it had before where that is possible."""
    chosen: dict[str, int] = {}
    for name in names:
        port = before.get(name, 0)
        while not port or port in chosen.values() or not is_free(port):
            port = random.randrange(_LOW, _HIGH)
        chosen[name] = port
    return chosen


def holder_of(port: int) -> str | None:
    """Who listens at a port, such as `nginx (pid 42)`, where the system tells."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            here = getattr(connection.laddr, "port", None) == port
            if here and connection.status == psutil.CONN_LISTEN and connection.pid is not None:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return None
