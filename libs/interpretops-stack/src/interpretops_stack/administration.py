"""`mechctl tenants`, `keys` and `audit`: for whoever runs the installation, with its own settings.

They reach the database and the keys of the installation directly, so they work before there is any API
key and while no service runs. What they do stands in the audit log as done by the installation.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from interpretops.cli.console import err, out
from interpretops.errors import InterpretOpsError
from rich.table import Table

from interpretops_stack.folder import DEFAULT_FOLDER, StackFolder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from interpretops_platform.database.engine import Database
    from interpretops_platform.security.keys import IssuedKey
    from interpretops_platform.security.peppers import Peppers
    from interpretops_platform.settings import Settings
    from interpretops_platform.tenants import TenantEntry

tenants = typer.Typer(no_args_is_help=True, help="Tenants of this installation.")
keys = typer.Typer(no_args_is_help=True, help="API keys of a tenant.")
audit = typer.Typer(no_args_is_help=True, help="The audit log of a tenant.")

_T = TypeVar("_T")
_PANEL = "Administer an installation"
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Settings of the installation; else those of the stack here, else the environment.",
        show_default=False,
    ),
]
TenantOption = Annotated[
    str | None,
    typer.Option("--tenant", "-t", help="Name or id; needed where there is more than one."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `mechctl`."""
    from interpretops_stack.backups import backup, restore

    for name, commands in (("tenants", tenants), ("keys", keys), ("audit", audit)):
        app.add_typer(commands, name=name, rich_help_panel=_PANEL)
    for command in (backup, restore):
        app.command(rich_help_panel=_PANEL)(command)


@tenants.command("create")
def create_tenant(
    name: Annotated[str, typer.Argument(help="What it is called.")], config: ConfigOption = None
) -> None:
    """Make a tenant, with a key of its own for its objects where there is a master key.

    Example: mechctl tenants create "Research"
    """

    async def work(settings: Settings, database: Database) -> str:
        from interpretops_platform.tenants import create_tenant, open_master_key

        return str(await create_tenant(database, name, open_master_key(settings)))

    tenant_id = run_here(config, work)
    out.print(f"[green]made[/] the tenant {name!r} with the id [bold]{tenant_id}[/]")
    out.print(f"[dim]next: mechctl keys issue admin --role admin --tenant '{name}'[/]")


@tenants.command("list")
def list_tenants(config: ConfigOption = None) -> None:
    """Show all tenants."""

    async def work(_: Settings, database: Database) -> list[TenantEntry]:
        from interpretops_platform.tenants import list_tenants

        return list(await list_tenants(database))

    table = Table("name", "id", "made", "state", box=None)
    for tenant in run_here(config, work):
        state = "[red]shredded[/]" if tenant.shredded_at else ""
        table.add_row(tenant.name, str(tenant.id), _day(tenant.created_at), state)
    out.print(table)


@tenants.command("rewrap")
def rewrap_tenants(config: ConfigOption = None) -> None:
    """Wrap every tenant's data key by the new master key, so that the old one can go.

    Put a new line first into the file of master keys (or name a key of AWS KMS), give it to every
    process, run this, and remove the old line. Objects stay as they are.
    """

    async def work(settings: Settings, database: Database) -> int:
        from interpretops_platform.errors import SettingsError
        from interpretops_platform.tenants import open_master_key, rewrap_tenants

        master_key = open_master_key(settings)
        if master_key is None:
            raise SettingsError("there is no master key", fix="set security.master_key_file")
        return await rewrap_tenants(database, master_key)

    out.print(f"[green]wrapped[/] the data keys of {run_here(config, work)} tenants anew")


@tenants.command("shred")
def shred_tenant(
    name: Annotated[str, typer.Argument(help="Its name or id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; there is no way back.")] = False,
    config: ConfigOption = None,
) -> None:
    """Delete a tenant's key and rows for ever: no copy of its objects can be read again.

    Its name and its audit log remain. Example: mechctl tenants shred "Research" --yes
    """
    if not yes:
        typer.confirm(f"Delete everything of {name!r} for ever?", abort=True)

    async def work(_: Settings, database: Database) -> str:
        from interpretops_platform.audit import INSTALLATION
        from interpretops_platform.database.session import tenant_session
        from interpretops_platform.tenants import find_tenant, shred_tenant

        tenant = await find_tenant(database, name)
        async with tenant_session(database, tenant.id) as session:
            deleted = await shred_tenant(session, actor=INSTALLATION)
        return f"{deleted.jobs} jobs, {len(deleted.artifacts)} artifacts, {deleted.keys} API keys"

    out.print(f"[green]shredded[/] {name!r}: {run_here(config, work)}")
    out.print("[dim]its objects are deleted when retention runs next[/]")


@keys.command("issue")
def issue_key(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    roles: Annotated[
        list[str], typer.Option("--role", help="viewer, operator, approver or admin.")
    ],
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="Narrows the role, as in generate.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="How long it lives; for ever by default.")
    ] = None,
    tenant: TenantOption = None,
    config: ConfigOption = None,
) -> None:
    """Issue a key, and show it this once.

    Example: mechctl keys issue nightly-evals --role operator --days 90
    """

    async def work(settings: Settings, database: Database) -> IssuedKey:
        from interpretops_platform.database.session import tenant_session
        from interpretops_platform.security.key_store import issue_key
        from interpretops_platform.security.principal import Role, Scope

        found = await _tenant(database, tenant)
        async with tenant_session(database, found.id) as session:
            return await issue_key(
                session,
                found.id,
                name=name,
                roles=[_member(Role, role, "role") for role in roles],
                scopes=None if not scopes else [_member(Scope, text, "scope") for text in scopes],
                lifetime=None if days is None else timedelta(days=days),
                peppers=_peppers(settings),
            )

    _show(run_here(config, work))


@keys.command("list")
def list_keys(
    tenant: TenantOption = None,
    config: ConfigOption = None,
) -> None:
    """Show a tenant's keys, without their secrets."""

    async def work(_: Settings, database: Database) -> Table:
        from interpretops_platform.database.models import ApiKey
        from interpretops_platform.database.session import tenant_session
        from sqlalchemy import select

        table = Table("key", "name", "roles", "made", "last used", "ends", box=None)
        found = await _tenant(database, tenant)
        async with tenant_session(database, found.id) as session:
            for key in await session.scalars(select(ApiKey).order_by(ApiKey.created_at)):
                ends = "[red]revoked[/]" if key.revoked_at else _day(key.expires_at, "never")
                used = _day(key.last_used_at, "never")
                roles = ", ".join(key.roles)
                table.add_row(key.prefix, key.name, roles, _day(key.created_at), used, ends)
        return table

    out.print(run_here(config, work))


@keys.command("rotate")
def rotate_key(
    prefix: Annotated[str, typer.Argument(help="The key, as `mechctl keys list` names it.")],
    grace_hours: Annotated[float, typer.Option(help="How long the old key goes on.")] = 24,
    days: Annotated[
        float | None, typer.Option(help="How long the new key lives; for ever by default.")
    ] = None,
    tenant: TenantOption = None,
    config: ConfigOption = None,
) -> None:
    """Replace a key by one of the same name and rights; for a while both work."""

    async def work(settings: Settings, database: Database) -> IssuedKey:
        from interpretops_platform.database.session import tenant_session
        from interpretops_platform.security.key_store import rotate_key

        found = await _tenant(database, tenant)
        async with tenant_session(database, found.id) as session:
            return await rotate_key(
                session,
                prefix,
                peppers=_peppers(settings),
                grace=timedelta(hours=grace_hours),
                lifetime=None if days is None else timedelta(days=days),
            )

    _show(run_here(config, work))


@keys.command("revoke")
def revoke_key(
    prefix: Annotated[str, typer.Argument(help="The key, as `mechctl keys list` names it.")],
    tenant: TenantOption = None,
    config: ConfigOption = None,
) -> None:
    """Withdraw a key; it is refused everywhere within seconds."""

    async def work(_: Settings, database: Database) -> None:
        from interpretops_platform.database.session import tenant_session
        from interpretops_platform.security.key_store import revoke_key

        found = await _tenant(database, tenant)
        async with tenant_session(database, found.id) as session:
            await revoke_key(session, prefix)

    run_here(config, work)
    out.print(f"[green]revoked[/] {prefix}")


@audit.command("verify")
def verify_audit(
    tenant: TenantOption = None,
    known: Annotated[
        str | None,
        typer.Option(help="A head noted by hand, as SEQ:HASH, to be held against the chain too."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Walk the audit log from its beginning; status 1, and the entry at fault, where it was changed.

    It is held against the anchors that the keeper notes where `audit.anchor_bucket` or
    `audit.anchor_folder` is set. Without any, a log whose end was cut off looks sound.

    Example: mechctl audit verify --known 841:9f2c…
    """
    noted = None if known is None else _head(known)

    async def work(settings: Settings, database: Database) -> tuple[bool, str, int]:
        from interpretops_platform.anchors import open_anchors, verify_anchored
        from interpretops_platform.audit import AuditBrokenError, Head

        found = await _tenant(database, tenant)
        anchors = open_anchors(settings)
        count = 0 if anchors is None else len(await asyncio.to_thread(anchors.noted, found.id))
        known = [] if noted is None else [Head(*noted)]
        try:
            head = await verify_anchored(database, found.id, anchors, *known)
        except AuditBrokenError as error:
            return False, str(error), count
        return True, f"{head.seq}:{head.hash}", count

    sound, text, anchored = run_here(config, work)
    if not sound:
        err.print(f"[bold red]the audit log was changed[/]: {text}", soft_wrap=True)
        raise typer.Exit(1)
    held = (
        "it agrees with its one anchor" if anchored == 1 else f"it agrees with {anchored} anchors"
    )
    out.print(
        f"[green]sound[/]; {held if anchored else 'no anchor to hold it against'}; "
        f"its head is [bold]{text}[/]",
        soft_wrap=True,
    )


def run_here(config: Path | None, work: Callable[[Settings, Database], Awaitable[_T]]) -> _T:
    """Do something with the settings and the database of the installation."""
    from interpretops_platform.database.engine import Database, is_transient
    from interpretops_platform.errors import PlatformError
    from interpretops_platform.settings import load_settings

    here = StackFolder(DEFAULT_FOLDER).config
    path = here if config is None and here.is_file() else config

    async def whole() -> _T:
        settings = load_settings(path)
        database = Database(settings, name="mechctl")
        try:
            return await work(settings, database)
        finally:
            await database.close()

    try:
        return asyncio.run(whole())
    except PlatformError as error:
        raise InterpretOpsError(error.problem, fix=error.fix) from None
    except Exception as error:
        if not is_transient(error):
            raise
        raise InterpretOpsError(
            "the database of the installation does not answer",
            fix="start it (`mechctl up`), or name the right settings with --config",
        ) from None


async def _tenant(database: Database, name: str | None) -> TenantEntry:
    from interpretops_platform.tenants import find_tenant, list_tenants

    if name is not None:
        return await find_tenant(database, name)
    there = [tenant for tenant in await list_tenants(database) if not tenant.shredded_at]
    if len(there) == 1:
        return there[0]
    if not there:
        raise InterpretOpsError("there is no tenant yet", fix="mechctl tenants create NAME")
    raise InterpretOpsError(
        f"there are {len(there)} tenants",
        fix=f"say which one with --tenant, such as '{there[0].name}'",
    )


def _peppers(settings: Settings) -> Peppers:
    from interpretops_platform.security.peppers import Peppers

    path = settings.security.pepper_file
    if path is None:
        raise InterpretOpsError("API keys are not set up", fix="set security.pepper_file")
    return Peppers.from_file(path)


def _member(kind: type[_T], text: str, what: str) -> _T:
    try:
        return kind(text)  # type: ignore[call-arg]
    except ValueError:
        known = ", ".join(str(member) for member in kind)  # type: ignore[attr-defined]
        raise InterpretOpsError(f"{text!r} is no {what}", fix=f"use one of {known}") from None


def _head(text: str) -> tuple[int, str]:
    seq, _, digest = text.partition(":")
    if not seq.isascii() or not seq.isdigit() or len(digest) != 64:
        raise InterpretOpsError(
            f"{text!r} is no head of an audit log", fix="give what `mechctl audit verify` showed"
        )
    return int(seq), digest


def _show(issued: IssuedKey) -> None:
    err.print("[dim]This key is shown once; keep it:[/]")
    out.print(issued.token.text, soft_wrap=True)


def _day(at: datetime | None, otherwise: str = "") -> str:
    return otherwise if at is None else f"{at:%Y-%m-%d %H:%M}"
