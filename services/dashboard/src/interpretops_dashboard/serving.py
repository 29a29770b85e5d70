"""Running the dashboard as a process."""

from __future__ import annotations

import logging
import signal
import socket
from typing import TYPE_CHECKING

import uvicorn
from interpretops_platform.errors import SettingsError

from interpretops_dashboard.app import create_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops_platform.settings import Settings

logger = logging.getLogger(__name__)


def serve(settings: Settings, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: Of the installation.
        ready: Told the address once it is taken.

    Raises:
        SettingsError: When the address is taken, or the pages are not there.
    """
    app = create_app(settings)
    listener = _listen(settings.dashboard.host, settings.dashboard.port)
    host, port = listener.getsockname()[:2]
    logger.info("listening", extra={"address": f"{host}:{port}"})
    ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    # The server raises its signal again once it has stopped, which would be our end by it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=2,  # what is open by then are event streams, which resume
        forwarded_allow_ips="*" if settings.dashboard.public_url else None,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {host}:{port} ({error.strerror})",
            fix="set dashboard.host and dashboard.port to a free address",
        ) from None
    listener.listen(512)
    return listener
