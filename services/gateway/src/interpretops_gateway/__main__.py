"""`python -m interpretops_gateway --config config.yaml`: serve the edge until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from interpretops_platform.errors import PlatformError, SettingsError
from interpretops_platform.settings import Settings, load_settings
from interpretops_platform.telemetry.logs import configure_logging
from interpretops_platform.telemetry.traces import configure_tracing
from uvicorn.supervisors import Multiprocess

from interpretops_gateway.app import create_app

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)


_CONFIG = "INTERPRETOPS_GATEWAY_CONFIG_FILE"
"""Tells further processes where the settings are."""


def main() -> int:
    """Serve; the exit code is 2 where the installation is set up in a way that cannot work."""
    parser = argparse.ArgumentParser(
        prog="python -m interpretops_gateway", description="The HTTP edge of InterpretOps."
    )
    parser.add_argument("--config", type=Path, help="config.yaml; else the environment alone")
    path: Path | None = parser.parse_args().config
    try:
        settings = load_settings(path)
        configure_logging("gateway", level=settings.telemetry.log_level)
        serve(settings, path)
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def serve(settings: Settings, path: Path | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: Of the installation.
        path: Where they came from, for further processes.

    Raises:
        SettingsError: When the address is taken.
    """
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    logger.info("listening", extra={"address": f"{host}:{port}"})
    if settings.edge.processes == 1:
        # The server raises its signal again once it has stopped, which would be our end by it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        uvicorn.Server(_config(settings, _app(settings))).run(sockets=[listener])
        return
    os.environ[_CONFIG] = "" if path is None else str(path)
    Multiprocess(
        _config(settings, "interpretops_gateway.__main__:child_app"), sockets=[listener]
    ).run()


def child_app() -> FastAPI:
    """The application of one of several processes."""
    path = os.environ[_CONFIG]
    settings = load_settings(Path(path) if path else None)
    configure_logging("gateway", level=settings.telemetry.log_level)
    return _app(settings)


def _app(settings: Settings) -> FastAPI:
    configure_tracing("gateway", settings.telemetry)
    return create_app(settings)


def _config(settings: Settings, app: FastAPI | str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=settings.edge.processes,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=round(settings.edge.drain_seconds),
    )


def _listen(settings: Settings) -> socket.socket:
    edge = settings.edge
    family = socket.AF_INET6 if ":" in edge.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((edge.host, edge.port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {edge.host}:{edge.port} ({error.strerror})",
            fix="set edge.host and edge.port to a free address",
        ) from None
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener


if __name__ == "__main__":
    sys.exit(main())
