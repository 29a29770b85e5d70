"""`mechctl backup` and `restore`: an installation's rows and objects in a folder, and back again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from interpretops.cli.console import err, out
from interpretops.errors import InterpretOpsError

from interpretops_stack.administration import ConfigOption, run_here
from interpretops_stack.folder import DEFAULT_FOLDER, StackFolder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from interpretops_platform.backup import Checked, Summary
    from interpretops_platform.database.engine import Database
    from interpretops_platform.settings import Settings

_KEYS = ("master-key", "pepper")
"""Files without which a restore opens nothing and lets nobody in; a backup never holds them."""


def backup(
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    config: ConfigOption = None,
) -> None:
    """Copy all rows and objects of an installation into a folder, while it runs.

    The keys of the installation (master key, pepper) are not in it: keep them elsewhere. Objects stay
    sealed. A tenant that is shredded later still opens from an older backup that has its wrapped key, so
    delete backups when their time is over.

    Example: mechctl backup backups/2026-03-01
    """
    with err.status("starting") as spinner:

        async def work(settings: Settings, database: Database) -> Summary:
            from interpretops_platform.backup import back_up

            return await back_up(settings, database, folder.resolve(), spinner.update)

        made = run_here(config, work)
    out.print(
        f"[green]backed up[/] to [bold]{folder}[/]: the rows of {made.made_at:%Y-%m-%d %H:%M} UTC "
        f"and {made.objects} objects ({made.bytes / 1e6:.1f} MB)",
        soft_wrap=True,
    )
    out.print("[dim]not in it: master key and pepper; keep them elsewhere[/]")
    out.print(f"[dim]next, on the day: mechctl restore {folder} --data NEW --keys KEYS[/]")


def restore(
    folder: Annotated[Path, typer.Argument(help="What `mechctl backup` wrote.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Restore into a new stack on this machine, in this folder."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="With --data: the folder that holds master-key and pepper."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Bring an empty installation to what a backup holds, and read all of it to prove that it opens.

    Every audit log is walked and every file of every artifact is opened and compared with its digest.
    With --data it makes a new stack, to be started by `mechctl up`; else the installation of --config,
    whose database must be empty.

    Example: mechctl restore backups/2026-03-01 --data .io_stack --keys /mnt/safe/keys
    """
    with err.status("starting") as spinner:
        if data is not None:
            target = StackFolder(data)
            summary, checked = _into_new_stack(target, keys, folder, config, spinner.update)
        else:
            summary, checked = run_here(config, _restoring(folder, spinner.update))
    out.print(
        f"[green]restored[/] the state of {summary.made_at:%Y-%m-%d %H:%M} UTC; read and found right: "
        f"{checked.tenants} audit logs, {checked.artifacts} artifacts, {checked.files} files "
        f"({checked.bytes / 1e6:.1f} MB)",
        soft_wrap=True,
    )
    if data is not None:
        here = "" if data == DEFAULT_FOLDER else f" --data {data}"
        out.print(f"[dim]next: mechctl up{here}[/]")


def _restoring(
    folder: Path, say: Callable[[str], None]
) -> Callable[[Settings, Database], Awaitable[tuple[Summary, Checked]]]:
    async def work(settings: Settings, database: Database) -> tuple[Summary, Checked]:
        from interpretops_platform.backup import restore

        return await restore(settings, database, folder.resolve(), say)

    return work


def _into_new_stack(
    target: StackFolder,
    keys: Path | None,
    folder: Path,
    config: Path | None,
    say: Callable[[str], None],
) -> tuple[Summary, Checked]:
    """Make a stack with these keys, restore into it, and leave it stopped."""
    from interpretops_platform.embedded import EmbeddedPostgres

    from interpretops_stack.installation import choose_addresses, make_secrets, write_settings

    if (target.path / "postgres").exists():
        raise InterpretOpsError(
            f"there is a stack in {target.path}", fix="name a folder of which there is none"
        )
    if keys is None or any(not (keys / name).is_file() for name in _KEYS):
        raise InterpretOpsError(
            "the keys of the installation are missing",
            fix=f"name the folder that holds {' and '.join(_KEYS)} with --keys",
        )
    target.make()
    for name in _KEYS:
        shutil.copy(keys / name, target.secrets / name)
        (target.secrets / name).chmod(0o600)
    make_secrets(target)
    addresses = choose_addresses(target, 8080)
    postgres = EmbeddedPostgres(target.path / "postgres", port=addresses.postgres).start()
    try:
        write_settings(target, config, addresses, postgres.url)
        return run_here(target.config, _restoring(folder, say))
    finally:
        postgres.stop()
