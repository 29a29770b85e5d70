"""`mechctl artifacts`: what was made, from what, and whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from interpretops.cli.bench import LocalBench, Workbench
from interpretops.cli.console import out
from interpretops.cli.options import ConfigOption

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import OverflowMethod

    from interpretops.artifacts import Manifest
    from interpretops.cli.remote import RemoteBench

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, name, trace back, verify and clean up what was made.",
)
Ref = Annotated[str, typer.Argument(help="An id, a unique beginning of one, or an --out folder.")]


_ROOMY = 120
"""Columns of a terminal that shows the model beside the summary."""


@app.command("ls")
def list_artifacts(
    config: ConfigOption = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Only one kind: trace, dictionary, circuit, policy, risk_card or report.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List artifacts, oldest first."""
    from rich.table import Table
    from rich.text import Text

    from interpretops.artifacts import ArtifactKind
    from interpretops.errors import InterpretOpsError

    try:
        wanted = None if kind is None else ArtifactKind(kind)
    except ValueError as error:
        kinds = ", ".join(member.value for member in ArtifactKind)
        raise InterpretOpsError(f"there is no kind {kind!r}", fix=f"use one of {kinds}") from error
    table = Table(box=None, pad_edge=False)
    for name in ("id", "made", "size"):
        table.add_column(name, no_wrap=True)
    for name in ("summary", "model") if out.width >= _ROOMY else ("summary",):
        table.add_column(name)
    # Whoever looks on sees a line each, and `show` has the rest; in a file nothing is cut off.
    cut = out.is_terminal
    overflow: OverflowMethod = "ellipsis" if cut else "fold"
    manifests = Workbench.open(config).store.ls(wanted)
    for manifest in manifests:
        cells = [
            manifest.id,
            f"{manifest.created_at:%Y-%m-%d %H:%M}",
            _size(manifest.size),
            f"{manifest.kind.value}: {_headline(manifest.summary)}",
            "" if manifest.model is None else manifest.model.name,
        ]
        shown = [Text(cell, no_wrap=cut, overflow=overflow) for cell in cells]
        table.add_row(*shown[: len(table.columns)])
    if manifests:
        out.print(table)
    else:
        out.print("Nothing has been made yet. Begin with `mechctl demo` or `mechctl trace --help`.")


@app.command()
def show(ref: Ref, config: ConfigOption = None) -> None:
    """Show an artifact's manifest."""
    manifest = Workbench.open(config).store.get(ref)
    out.print_json(manifest.model_dump_json())


@app.command()
def lineage(ref: Ref, config: ConfigOption = None) -> None:
    """Show what an artifact was made from, all the way back."""
    from rich.tree import Tree

    store = Workbench.open(config).store
    manifests = {manifest.id: manifest for manifest in store.lineage(ref)}

    def label(manifest: Manifest) -> str:
        return (
            f"[bold]{manifest.id}[/]  {manifest.kind.value}  [dim]sha256 {manifest.sha256[:16]}[/]"
        )

    def grow(tree: Tree, manifest: Manifest) -> None:
        for parent in manifest.parents:
            grow(tree.add(label(manifests[parent])), manifests[parent])

    root = store.get(ref)
    tree = Tree(label(root))
    grow(tree, root)
    out.print(tree)


@app.command()
def verify(
    refs: Annotated[
        list[str] | None, typer.Argument(help="What to check; everything by default.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Check every payload against the hashes in its manifest; status 1 if anything is damaged."""
    store = Workbench.open(config).store_to_verify()
    verdicts = [
        store.verify(store.get(ref).id if ref not in store.ids() else ref)
        for ref in refs or store.ids()
    ]
    for verdict in verdicts:
        if verdict.whole:
            out.print(f"[green]whole[/]    {verdict.id}")
        for problem in verdict.problems:
            out.print(f"[bold red]damaged[/]  {verdict.id}: {problem}")
    if not all(verdict.whole for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def name(
    ref: Ref,
    name: Annotated[str, typer.Argument(help="What to call it, such as sae_v1.")],
    config: ConfigOption = None,
) -> None:
    """Call an artifact of a platform something, or move a name to it from another of its kind.

    The name then stands for its id. Example: mechctl --api local artifacts name sae_01J9Z3 sae_v1
    """
    bench = _platform(config)
    made = bench.client.artifacts.name(bench.store.get(ref).id, name)
    out.print(f"[green]✓[/] {made.name} names the {made.kind.replace('_', ' ')} {made.artifact}")


@app.command()
def unname(
    name: Annotated[str, typer.Argument(help="The name to take away; the artifact stays.")],
    config: ConfigOption = None,
) -> None:
    """Take a name away from an artifact of a platform."""
    taken = _platform(config).client.artifacts.unname(name)
    out.print(f"[green]✓[/] {taken.artifact} is called {name} no longer")


@app.command()
def names(config: ConfigOption = None) -> None:
    """List what artifacts of a platform are called."""
    from rich.table import Table

    table = Table("name", "kind", "artifact", "author", box=None)
    for each in _platform(config).client.artifacts.names():
        table.add_row(each.name, each.kind, each.artifact, each.author)
    out.print(table if table.row_count else "no names yet: `mechctl artifacts name` an artifact")


@app.command()
def gc(
    config: ConfigOption = None,
    identifier: Annotated[
        str | None, typer.Option("--id", help="Remove this one artifact.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what is older than compliance.retention_days and nothing younger was made from.

    A platform does so by itself.
    """
    from interpretops.errors import InterpretOpsError

    bench = LocalBench.open_for("artifacts gc", config)
    if identifier is not None:
        if identifier not in bench.store.ids():
            raise InterpretOpsError(
                f"there is no artifact {identifier}", fix="list ids with `mechctl artifacts ls`"
            )
        children = [m.id for m in bench.store.ls() if identifier in m.parents]
        if children:
            raise InterpretOpsError(
                f"{identifier} is what {', '.join(children)} was made from",
                fix="remove the younger artifacts first",
            )
        if not dry_run:
            bench.store.remove(identifier)
        removed = [identifier]
    else:
        days = bench.config.compliance.retention_days
        removed = [m.id for m in bench.store.gc(days, dry_run=dry_run)]
    verb = "would remove" if dry_run else "removed"
    for name in removed:
        out.print(f"{verb} {name}")
    if not removed:
        out.print("Nothing is old enough to go.")


def _platform(config: Path | None) -> RemoteBench:
    from interpretops.cli.remote import RemoteBench

    what, example = "artifacts have names", "mechctl --api local artifacts name ID NAME"
    return RemoteBench.open_for(what, example, config)


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _headline(summary: Mapping[str, object]) -> str:
    shown = [
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in summary.items()
        if isinstance(value, str | int | float)
    ]
    return ", ".join(shown[:4])
