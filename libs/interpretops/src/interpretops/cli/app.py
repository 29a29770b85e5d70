"""The `mechctl` command and its verbs."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated, cast

import typer

from interpretops.cli import (
    artifacts,
    circuits,
    discover,
    judge,
    policy,
    production,  # noqa: F401 - adds its verbs to those of `policy`
)
from interpretops.cli.bench import Workbench
from interpretops.cli.connection import connection_to
from interpretops.cli.console import err, one_line_errors, out
from interpretops.cli.demo import demo
from interpretops.cli.drift import drift
from interpretops.errors import InterpretOpsError

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""A command line that does not parse. Typer carries Click inside it and does not export the class."""

app = typer.Typer(
    name="mechctl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Discover the circuits behind a model's risky behaviour, steer them, and prove what changed.

The verbs in order, each making an artifact that the next one reads:

  trace → sae-train → search → policy propose → steer → eval → report

[bold]mechctl demo[/] runs all of them on the built-in model in ten to twenty minutes.""",
)

discovering, steering, proving = "Discover", "Steer", "Prove"
app.command(rich_help_panel="Start here")(demo)
app.command(rich_help_panel=discovering)(discover.trace)
app.command("sae-train", rich_help_panel=discovering)(discover.sae_train)
app.command(rich_help_panel=discovering)(discover.search)
app.add_typer(circuits.app, name="circuits", rich_help_panel=discovering)
app.add_typer(policy.app, name="policy", rich_help_panel=steering)
app.command(rich_help_panel=steering)(policy.steer)
app.command("eval", rich_help_panel=proving)(judge.evaluate)
app.command(rich_help_panel=proving)(judge.report)
app.command(rich_help_panel=proving)(drift)
app.add_typer(artifacts.app, name="artifacts", rich_help_panel=proving)

COMMANDS = "interpretops.commands"
"""Entry points of other packages: functions that add their commands to `mechctl`."""

_STACK_COMMANDS = ("up", "down", "status", "logs", "serve-ui", "tenants", "keys", "audit")
_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True}


def _add_commands_of_other_packages() -> None:
    for found in entry_points(group=COMMANDS):
        found.load()(app)
    known = {group.name for group in app.registered_groups} | {
        command.name or getattr(command.callback, "__name__", "")
        for command in app.registered_commands
    }
    for name in _STACK_COMMANDS:
        if name not in known:
            app.command(name, hidden=True, context_settings=_ANYTHING)(_needs_the_stack)


def _needs_the_stack(context: typer.Context) -> None:
    """Say what has to be installed for this command."""
    raise InterpretOpsError(
        f"`mechctl {context.info_name}` runs the platform, which is not installed here",
        fix="pip install interpretops-stack",
    )


_add_commands_of_other_packages()


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(f"mechctl {version('interpretops')}")
        raise typer.Exit


@app.callback()
def _main(
    api: Annotated[
        str | None,
        typer.Option(
            envvar="INTERPRETOPS_API",
            help="Let a platform do the work: its address, or `local` for the one of `mechctl up`.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="INTERPRETOPS_API_KEY", help="An API key of that platform.", show_default=False
        ),
    ] = None,
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Handle options that come before a verb."""
    Workbench.connection = connection_to(api, key)


def main() -> None:
    """Run `mechctl`; every problem a user can fix is one line and exit status 2."""
    with one_line_errors():
        try:
            status = app(prog_name="mechctl", standalone_mode=False)
        except UsageError as error:
            context = getattr(error, "ctx", None)
            where = "mechctl" if context is None else context.command_path
            problem = error.format_message().rstrip(".")
            err.print(
                f"[bold red]error:[/] {problem}. [bold]Fix:[/] see `{where} --help`.",
                soft_wrap=True,
            )
            sys.exit(2)
        except typer.Abort:
            sys.exit(130)
        sys.exit(status if isinstance(status, int) else 0)
