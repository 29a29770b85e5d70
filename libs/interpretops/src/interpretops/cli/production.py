"""`mechctl policy publish`, `approve`, `activate` and their like: a policy's way into production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from interpretops.cli.console import out
from interpretops.cli.options import ConfigOption
from interpretops.cli.policy import PolicyArgument, app
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops.cli.remote import RemoteBench
    from interpretops.client import PolicyVersion

PRODUCTION = "Production (on a platform: --api)"
VersionArgument = Annotated[
    str, typer.Argument(metavar="NAME@VERSION", help="A version, such as jailbreak-v1@3.")
]
NameArgument = Annotated[str, typer.Argument(help="A policy's name, such as jailbreak-v1.")]


@app.command(rich_help_panel=PRODUCTION)
def publish(policy: PolicyArgument, config: ConfigOption = None) -> None:
    """Store a policy as the next version of its name, and ask for it to be approved.

    Example: mechctl --api local policy publish demo/policy
    """
    bench = _platform(config)
    _show(bench.publish(policy))


@app.command(rich_help_panel=PRODUCTION)
def versions(
    name: Annotated[
        str | None, typer.Argument(help="A policy's name; all policies without.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """List policies, or the versions of one, and how far each has got."""
    from rich.table import Table

    policies = _platform(config).client.policies
    table = Table("policy", "state", "author", "artifact", box=None)
    for each in policies.list() if name is None else policies.versions(name):
        table.add_row(
            f"{each.name}@{each.version}", each.state, each.author or "", each.artifact or ""
        )
    out.print(table if table.row_count else "no policies yet: `mechctl policy publish` one")


@app.command(rich_help_panel=PRODUCTION)
def approve(version: VersionArgument, config: ConfigOption = None) -> None:
    """Approve a version that somebody else wrote."""
    name, number = _version(version)
    _show(_platform(config).client.policies.approve(name, number))


@app.command(rich_help_panel=PRODUCTION)
def activate(version: VersionArgument, config: ConfigOption = None) -> None:
    """Put an approved version into production, in place of the active one."""
    name, number = _version(version)
    _show(_platform(config).client.policies.activate(name, number))


@app.command("roll-back", rich_help_panel=PRODUCTION)
def roll_back(name: NameArgument, config: ConfigOption = None) -> None:
    """Put the version into production again that was active before."""
    _show(_platform(config).client.policies.roll_back(name))


@app.command(rich_help_panel=PRODUCTION)
def retire(version: VersionArgument, config: ConfigOption = None) -> None:
    """Take a version out of production, or give it up on its way there."""
    name, number = _version(version)
    _show(_platform(config).client.policies.retire(name, number))


_NEXT = {
    "proposed": "next, by another person: mechctl policy approve {}",
    "approved": "next: mechctl policy activate {}",
    "active": "answered by it: requests to the model MODEL@{name}",
}


def _show(version: PolicyVersion) -> None:
    label = f"{version.name}@{version.version}"
    out.print(f"[green]✓[/] {label} is {version.state}")
    if version.state in _NEXT:
        out.print(f"[dim]{_NEXT[version.state].format(label, name=version.name)}[/]")


def _platform(config: Path | None) -> RemoteBench:
    """The platform that the command line names.

    Raises:
        InterpretOpsError: When it names none.
    """
    from interpretops.cli.remote import RemoteBench

    what, example = "policies go into production", "mechctl --api local policy ..."
    return RemoteBench.open_for(what, example, config)


def _version(text: str) -> tuple[str, int]:
    name, _, number = text.partition("@")
    if not name or not number.isdigit():
        raise InterpretOpsError(
            f"{text} names no version",
            fix="write NAME@VERSION, such as jailbreak-v1@1; `mechctl policy versions` lists them",
        )
    return name, int(number)
