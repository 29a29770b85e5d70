"""`mechctl up`, `down`, `status` and `logs`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from interpretops.cli.console import err, out
from interpretops.errors import InterpretOpsError

from interpretops_stack import control, processes
from interpretops_stack.folder import DEFAULT_FOLDER, StackFolder
from interpretops_stack.log_files import merged
from interpretops_stack.log_lines import render
from interpretops_stack.ports import free_port_from
from interpretops_stack.state import Phase, ProgramState

if TYPE_CHECKING:
    from types import FrameType

    from interpretops.cli.bench import Connection
    from rich.table import Table

    from interpretops_stack.state import StackState

DataOption = Annotated[
    Path, typer.Option("--data", help="The stack's folder: settings, secrets, data and logs.")
]
_STYLES = {ProgramState.READY: "green", ProgramState.DONE: "dim", ProgramState.STOPPED: "dim"}


def register(app: typer.Typer) -> None:
    """Add the commands to `mechctl`."""
    panel = "Run the platform here"
    for command in (up, down, status, logs):
        app.command(rich_help_panel=panel)(command)


def up(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Settings of your own.", show_default=False),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach/--foreground", help="Leave it running, or show its logs here."),
    ] = True,
    data: DataOption = DEFAULT_FOLDER,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the edge listens on this machine.")
    ] = 8080,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that work on jobs, one job each.")
    ] = 1,
) -> None:
    """Start the whole platform on this machine: database, broker, services, workers, edge and dashboard.

    Everything it keeps is in one folder and survives `mechctl down`.

    Example: mechctl up --port 8080 --foreground
    """
    folder = StackFolder(data)
    if folder.is_held():
        _say_it_is_up(folder)
        return
    if control.stop(folder, say=_note):
        _note("the last supervisor was killed; what it left was ended")
    begun = time.monotonic()
    with err.status("starting") as spinner:
        state = control.start(folder, config=config, port=port, workers=workers, say=spinner.update)
    out.print(_table(state))
    out.print(
        f"\n[bold green]up[/] at [bold]{state.address}[/]  "
        f"[dim]{time.monotonic() - begun:.0f} s; API reference {state.address}/docs[/]\n"
        f"dashboard at [bold]{state.dashboard}[/]"
    )
    _show_admin_key(folder)
    if detach:
        out.print(
            "[dim]next: mechctl --api local artifacts ls, mechctl status, mechctl logs -f, "
            "mechctl down[/]"
        )
    else:
        _show_until_stopped(folder)


def down(data: DataOption = DEFAULT_FOLDER) -> None:
    """Stop the platform in order; running jobs finish or are handed back, and data is kept."""
    folder = StackFolder(data)
    with err.status("stopping"):
        ran = control.stop(folder, say=_note)
    out.print("[green]down[/]; nothing is left running" if ran else "nothing was running")


def status(
    data: DataOption = DEFAULT_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show every process of the platform; status 1 unless all of them are ready."""
    folder = StackFolder(data)
    state = folder.read_state()
    if state is None:
        raise InterpretOpsError(f"there is no stack in {folder.path}", fix="run `mechctl up`")
    held = folder.is_held()
    if as_json:
        out.print_json(state.model_dump_json())
    else:
        out.print(_table(state))
        if held:
            out.print(
                f"\n{state.phase.value} at [bold]{state.address}[/]; "
                f"dashboard at [bold]{state.dashboard}[/]"
            )
        elif any(processes.is_alive(p.process) for p in state.programs if p.process):
            out.print(
                "\n[bold red]the supervisor was killed[/]: run `mechctl up` or `mechctl down`"
            )
        else:
            out.print("\ndown; start it with `mechctl up`")
    if not (held and state.all_ready):
        raise typer.Exit(1)


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Whose logs; everybody's by default.")
    ] = None,
    data: DataOption = DEFAULT_FOLDER,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many to begin with.")
    ] = 100,
    as_json: Annotated[
        bool, typer.Option("--json", help="The lines as they were written.")
    ] = False,
) -> None:
    """Show what the processes log, merged in order of time."""
    folder = StackFolder(data)
    paths = sorted(folder.logs.glob("*.log"))
    if names:
        known = [path.stem for path in paths]
        for name in names:
            if name not in known:
                raise InterpretOpsError(
                    f"nothing called {name!r} has a log", fix=f"use one of {', '.join(known)}"
                )
        paths = [path for path in paths if path.stem in names]
    elif not paths:
        raise InterpretOpsError(f"there is no stack in {folder.path}", fix="run `mechctl up`")
    for line in merged(paths, lines=lines, follow=follow, stop=lambda: False):
        if as_json:
            out.print(line.raw, markup=False, soft_wrap=True)
        else:
            out.print(render(line), soft_wrap=True)


def platform_here(config: Path | None) -> Connection:
    """The platform of this machine, started if it is not up; for commands that need one.

    Args:
        config: Settings of the user's own; they count when it is started.

    Raises:
        InterpretOpsError: When it does not come up.
    """
    from interpretops.cli.connection import LOCAL, STACK_VARIABLE, connection_to

    folder = StackFolder(Path(os.environ.get(STACK_VARIABLE, DEFAULT_FOLDER)))
    if not folder.is_held():
        up(config=config, data=folder.path, port=free_port_from(8080))
    found = connection_to(LOCAL, None)
    if found is None:
        raise InterpretOpsError("the platform left no address", fix="run `mechctl up`")
    return found


def _say_it_is_up(folder: StackFolder) -> None:
    state = folder.read_state()
    if state is None or state.phase is not Phase.UP:
        raise InterpretOpsError(
            f"the stack in {folder.path} is starting or stopping",
            fix="see `mechctl status`, and try again",
        )
    out.print(
        f"already up at [bold]{state.address}[/], dashboard at [bold]{state.dashboard}[/]; "
        "see `mechctl status` and `mechctl logs -f`"
    )
    _show_admin_key(folder)


def _show_admin_key(folder: StackFolder) -> None:
    """Show the admin's key the one time it can be seen."""
    if folder.admin_key.exists():
        key = folder.admin_key.read_text()
        out.print(f"\nadmin key, shown this once: [bold]{key}[/]", soft_wrap=True)
        folder.admin_key.unlink()


def _show_until_stopped(folder: StackFolder) -> None:
    """Show logs until Ctrl-C, SIGTERM or the end of the terminal, then stop everything."""
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    paths = sorted(folder.logs.glob("*.log"))
    for line in merged(paths, lines=0, follow=True, stop=lambda: asked or not folder.is_held()):
        out.print(render(line), soft_wrap=True)
    if not asked:
        raise InterpretOpsError("the stack ended", fix="see `mechctl logs supervisor`")
    control.stop(folder, say=_note)
    out.print("[green]down[/]; nothing is left running")


def _note(message: str) -> None:
    err.print(f"[dim]{message}[/]")


def _table(state: StackState) -> Table:
    from rich.table import Table

    table = Table("", "what it does", "state", "pid", "port", "memory", box=None, pad_edge=False)
    for name in ("pid", "port", "memory"):
        next(c for c in table.columns if c.header == name).justify = "right"
    total = 0
    rows = [
        *((p.name, p.what, p.state, p.process, p.port, p) for p in state.programs),
        (control.SUPERVISOR, "starts and watches them", None, state.supervisor, None, None),
    ]
    for name, what, found, process, port, program in rows:
        alive = process is not None and processes.is_alive(process)
        memory = 0
        if process is not None:
            memory = processes.memory_of(process, descendants=program is not None)
        total += memory
        if found is None:
            shown = "[green]ready[/]" if alive else "[dim]stopped[/]"
        elif process is not None and not alive:
            shown = "[bold red]gone[/]"
        else:
            shown = f"[{_STYLES.get(found, 'yellow')}]{found.value}[/]"
        if program is not None and program.restarts:
            times = "once" if program.restarts == 1 else f"{program.restarts} times"
            shown += f" [yellow](restarted {times})[/]"
        table.add_row(
            f"[bold]{name}[/]",
            what,
            shown,
            str(process.pid) if process is not None and alive else "",
            str(port or ""),
            f"{memory / 2**20:,.0f} MB" if memory else "",
        )
    table.add_row("", "", "", "", "", f"[bold]{total / 2**20:,.0f} MB[/]" if total else "")
    return table
