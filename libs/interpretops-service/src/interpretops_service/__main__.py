"""`python -m interpretops_service`: serves one service, or works on jobs."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from interpretops_platform.errors import PlatformError
from interpretops_platform.settings import load_settings


def main(arguments: list[str] | None = None) -> int:
    """Run one program.

    Returns:
        Exit status: 0, or 2 when the installation is set up in a way that cannot work.
    """
    parser = argparse.ArgumentParser(prog="python -m interpretops_service")
    programs = parser.add_subparsers(dest="program", required=True)
    serving = programs.add_parser("serve", help="serve one service's gRPC control server")
    serving.add_argument("name", help="name of the service, such as tracer")
    working = programs.add_parser("work", help="work on jobs")
    working.add_argument("kinds", nargs="+", help="kinds of jobs, such as trace")
    for program in (serving, working):
        program.add_argument("--config", type=Path, help="a config.yaml")
    chosen = parser.parse_args(arguments)
    try:
        settings = load_settings(chosen.config)
        if chosen.program == "serve":
            from interpretops_service.registry import service_factory
            from interpretops_service.serving import serve

            asyncio.run(serve(chosen.name, service_factory(chosen.name), settings))
        else:
            from interpretops_service.working import work

            work(chosen.kinds, settings)
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
