"""`python -m interpretops_stack`: the supervisor that `mechctl up` starts, and its first task."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import sys
from pathlib import Path

from interpretops_platform.embedded import EmbeddedPostgres, EmbeddedValkey
from interpretops_platform.errors import PlatformError
from interpretops_platform.telemetry.logs import configure_logging

from interpretops_stack.folder import StackFolder
from interpretops_stack.installation import (
    choose_addresses,
    make_secrets,
    prepare,
    write_settings,
    write_targets,
)

logger = logging.getLogger(__name__)


def supervise(folder: StackFolder, given: Path | None, edge_port: int, workers: int) -> bool:
    """Run the platform until SIGTERM.

    Returns:
        Whether it came up.
    """
    from interpretops_stack.programs import platform_programs
    from interpretops_stack.supervisor import Supervisor

    with folder.hold():
        make_secrets(folder)
        addresses = choose_addresses(folder, edge_port, workers)
        postgres = EmbeddedPostgres(folder.path / "postgres", port=addresses.postgres)
        valkey = EmbeddedValkey(folder.path / "valkey", port=addresses.valkey)
        postgres.initialise()
        write_settings(folder, given, addresses, postgres.url)
        write_targets(folder, addresses)
        programs = platform_programs(
            folder, addresses, postgres=postgres, valkey=valkey, workers=workers
        )
        supervisor = Supervisor(
            programs,
            folder,
            marker=secrets.token_hex(16),
            address=addresses.edge_url,
            dashboard=addresses.dashboard_url,
        )
        return supervisor.run()


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0, or 2 when something is wrong that the log names.
    """
    parser = argparse.ArgumentParser(prog="python -m interpretops_stack")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("supervise", help="run the platform until SIGTERM")
    run.add_argument("--config", type=Path)
    run.add_argument("--port", type=int, required=True)
    run.add_argument("--workers", type=int, default=1)
    task = commands.add_parser("prepare", help="migrate, and make tenant and keys")
    task.add_argument("--address", required=True)
    task.add_argument("--dashboard", required=True)
    for command in (run, task):
        command.add_argument("folder", type=Path)
    chosen = parser.parse_args(arguments)
    folder = StackFolder(chosen.folder)
    folder.make()
    configure_logging("stack")
    try:
        if chosen.command == "prepare":
            asyncio.run(prepare(folder, chosen.address, chosen.dashboard))
            return 0
        return 0 if supervise(folder, chosen.config, chosen.port, chosen.workers) else 2
    except BlockingIOError:
        logger.error("another supervisor runs in %s", folder.path)
    except PlatformError as error:
        logger.error("%s", error)
    return 2


if __name__ == "__main__":
    sys.exit(main())
