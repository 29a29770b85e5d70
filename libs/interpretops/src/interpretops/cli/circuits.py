"""`mechctl circuits`: look at a circuit, compare two, take in a graph that was made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interpretops.cli.bench import Workbench
from interpretops.cli.console import out
from interpretops.cli.options import ConfigOption

if TYPE_CHECKING:
    from interpretops.circuits import Measured
    from interpretops.drift.circuits import CircuitComparison, PlacedUnit

app = typer.Typer(
    no_args_is_help=True,
    help="Show and compare circuits; import attribution graphs of circuit-tracer and Neuronpedia.",
)
Ref = Annotated[str, typer.Argument(help="A circuit: its id, a beginning of it, or --out folder.")]


@app.command()
def show(ref: Ref, config: ConfigOption = None) -> None:
    """Show a circuit's strongest units and how well they explain the behaviour.

    Example: mechctl circuits show circuits
    """
    from interpretops.circuits import Circuit
    from interpretops.cli.discover import show_circuit

    show_circuit(Circuit.open(Workbench.open(config).store, ref))


@app.command()
def diff(
    base: Ref,
    other: Ref,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every unit, as JSON.")] = False,
) -> None:
    """Say which units two circuits of one behaviour share, and which one alone has.

    For circuits found on two versions of a model, with two seeds, or on two sets of prompts.

    Example: mechctl circuits diff cx_01J9Z3 cx_01JB7K
    """
    found = Workbench.open(config).compare_circuits(base, other)
    if as_json:
        out.print_json(found.model_dump_json())
    else:
        _print(found)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A graph file (JSON) of circuit-tracer.")],
    config: ConfigOption = None,
) -> None:
    """Keep an attribution graph as a circuit, to be looked at beside your own.

    The file is kept as it is. Nothing in it was measured here, so no policy is fitted to it.

    Example: mechctl circuits import gemma-fact-dallas-austin.json
    """
    from interpretops.errors import InterpretOpsError

    try:
        content = file.read_bytes()
    except OSError as error:
        raise InterpretOpsError(
            f"{file} cannot be read ({error.strerror})", fix="name a graph file"
        ) from error
    made = Workbench.open(config).import_graph(content)
    summary = made.summary
    out.print(
        f"{summary['nodes']} nodes and {summary['links']} links over {summary['tokens']} tokens, of "
        f"{summary['scan'] or 'a model it does not name'}"
    )
    if summary["loose_links"]:
        out.print(f"[yellow]{summary['loose_links']} links lead to no node and are not shown.[/]")
    out.print(f"[green]✓[/] {made.id}")
    out.print("[dim]next: look at it on the Circuits page of the dashboard[/]")


def _print(found: CircuitComparison) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("unit", "", "CCS before", "CCS after", "rank"):
        table.add_column(name)
    styles = {"shared": "", "gained": "green", "lost": "red"}
    for unit in found.units:
        table.add_row(
            unit.unit,
            unit.status,
            _ccs(unit.base),
            _ccs(unit.other),
            f"{_rank(unit.base)} → {_rank(unit.other)}",
            style=styles[unit.status],
        )
    out.print(table)
    counts = {status: len(found.named(status)) for status in ("shared", "gained", "lost")}
    out.print(
        f"{counts['shared']} units shared, {counts['gained']} gained, {counts['lost']} lost, between "
        f"{'circuits of one model' if found.same_model else 'two models'}."
    )
    out.print(
        f"heads and MLPs: Jaccard {found.jaccard:.2f}, weighted by attribution "
        f"{found.weighted_jaccard:.2f}"
    )
    if found.resampled is not None:
        out.print(
            f"on resamples of the pairs: {_interval(found.resampled)}; within the first circuit "
            f"{_interval(found.base_stability)}, within the second {_interval(found.other_stability)}"
        )
    if found.ccs_spearman is not None:
        out.print(f"rank correlation of CCS {_interval(found.ccs_spearman)}")
    if found.attribution_spearman is not None:
        out.print(
            "rank correlation of attribution between resamples of the pairs "
            f"{_interval(found.attribution_spearman)}"
        )
    for note in found.notes:
        out.print(f"[yellow]{note}.[/]")


def _ccs(placed: PlacedUnit | None) -> str:
    if placed is None:
        return ""
    return "not measured" if placed.ccs is None else f"{placed.ccs.value:+.3f}"


def _rank(placed: PlacedUnit | None) -> str:
    return "–" if placed is None or placed.rank is None else str(placed.rank)


def _interval(figure: Measured) -> str:
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f}, n = {figure.n})"
