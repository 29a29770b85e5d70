"""`mechctl serve-ui`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `mechctl`."""
    app.command("serve-ui", rich_help_panel="Run the platform here")(serve_ui)


def serve_ui(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A config.yaml.", show_default=False),
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(
            help="Address of the edge; else dashboard.api, else this machine.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Where to listen; else dashboard.port (8090)."),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--open", help="Open it in the browser.", show_default=False)
    ] = False,
) -> None:
    """Serve the dashboard until Ctrl-C. The platform itself may run here or elsewhere.

    `mechctl up` starts one too. Nobody needs Node for it: the pages are part of the package.

    Example: mechctl serve-ui --config config.yaml --api https://interpretops.example
    """
    from interpretops.cli.console import err, out
    from interpretops.errors import InterpretOpsError
    from interpretops_platform.errors import PlatformError
    from interpretops_platform.settings import load_settings
    from interpretops_platform.telemetry.logs import configure_logging

    from interpretops_dashboard.serving import serve

    given = {"api": api, "port": port}
    changed = {name: value for name, value in given.items() if value is not None}

    def ready(address: str) -> None:
        out.print(f"[bold green]dashboard[/] at [bold]{address}[/]")
        err.print("[dim]sign in with an API key; stop with Ctrl-C[/]")
        if browser:
            webbrowser.open(address)

    try:
        settings = load_settings(config)
        sections = settings.dashboard.model_copy(update=changed)
        configure_logging("dashboard", level="WARNING")
        serve(settings.model_copy(update={"dashboard": sections}), ready)
    except PlatformError as error:
        raise InterpretOpsError(error.problem, fix=error.fix) from None
