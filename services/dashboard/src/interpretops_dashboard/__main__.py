"""`python -m interpretops_dashboard --config config.yaml`: serve the dashboard until SIGTERM."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from interpretops_platform.errors import PlatformError
from interpretops_platform.settings import load_settings
from interpretops_platform.telemetry.logs import configure_logging

from interpretops_dashboard.serving import serve


def main() -> int:
    """Serve; the exit code is 2 where the installation is set up in a way that cannot work."""
    parser = argparse.ArgumentParser(
        prog="python -m interpretops_dashboard", description="The dashboard of InterpretOps."
    )
    parser.add_argument("--config", type=Path, help="config.yaml; else the environment alone")
    path: Path | None = parser.parse_args().config
    try:
        settings = load_settings(path)
        configure_logging("dashboard", level=settings.telemetry.log_level)
        serve(settings)
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
