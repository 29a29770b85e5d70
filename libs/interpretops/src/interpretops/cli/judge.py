"""`mechctl eval` and `mechctl report`: prove what a policy changed, and write it down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interpretops.cli.bench import Workbench
from interpretops.cli.console import out, watching
from interpretops.cli.options import ConfigOption, SaeOption

if TYPE_CHECKING:
    from interpretops.evals import RiskCardArtifact


def evaluate(
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="A YAML file, folder or artifact id; the newest by default.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str, typer.Option("--suite", help="A file of suites, or package:eval_suites.")
    ] = "package:eval_suites",
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Run only this suite (repeatable).")
    ] = None,
    circuit: Annotated[
        str | None,
        typer.Option(help="The circuit; the policy's own by default.", show_default=False),
    ] = None,
    sae: SaeOption = None,
    config: ConfigOption = None,
    limit: Annotated[
        int | None, typer.Option(help="At most this many prompts per suite.", show_default=False)
    ] = None,
    report_path: Annotated[
        Path | None,
        typer.Option("--report", help="Write the Risk Card here as JSON.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write the Risk Card here as a web page.", show_default=False),
    ] = None,
    no_fail: Annotated[
        bool, typer.Option("--no-fail", help="Exit 0 even when a criterion is missed.")
    ] = False,
) -> None:
    """Measure a policy on suites it was not fitted to; exit status 1 when a criterion is missed.

    Example: mechctl eval --policy policies/jailbreak --report card.json
    """
    from interpretops.artifacts import ArtifactKind
    from interpretops.cli.validate import checked
    from interpretops.errors import InterpretOpsError
    from interpretops.evals import EvalSpec

    bench = Workbench.open(config)
    ref = policy
    if ref is None:
        made = bench.store.ls(ArtifactKind.POLICY)
        if not made:
            raise InterpretOpsError(
                "there is no policy to evaluate",
                fix="give --policy, or make one with `mechctl policy propose`",
            )
        ref = made[-1].id
    runtime = bench.config.runtime
    spec = checked(
        EvalSpec,
        limit=limit,
        price_per_hour=runtime.price_per_hour,
        currency=runtime.currency,
        max_latency_overhead_pct=runtime.max_latency_overhead_pct,
    )
    with watching() as monitor:
        card = bench.evaluate(
            ref, spec, monitor, suites=suite, only=only or (), circuit=circuit, sae=sae
        )
    show_card(card)
    if report_path is not None:
        report_path.parent.mkdir(parents=True, exist_ok=True)
        report_path.write_text(card.card.model_dump_json(indent=2))
        out.print(f"[dim]Risk Card written to {report_path}[/]")
    if html is not None:
        from interpretops.evals import to_html

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(to_html(card.card))
        out.print(f"[dim]Risk Card written to {html}[/]")
    out.print(f"[green]✓[/] {card.id}\n[dim]next: mechctl report --card {card.id}[/]")
    if card.card.exit_code and not no_fail:
        raise typer.Exit(card.card.exit_code)


def report(
    card: Annotated[
        str | None,
        typer.Option("--card", help="The Risk Card; the newest by default.", show_default=False),
    ] = None,
    circuit_id: Annotated[
        str | None,
        typer.Option(
            "--circuit-id",
            help="Or the newest Risk Card made from this circuit.",
            show_default=False,
        ),
    ] = None,
    out_path: Annotated[Path, typer.Option("--out", "-o", help="Where to write the PDF.")] = Path(
        "report.pdf"
    ),
    config: ConfigOption = None,
) -> None:
    """Write the audit report of a Risk Card as a PDF, with the table of privacy principles.

    Example: mechctl report --circuit-id cx_01... --out report.pdf
    """
    import shutil

    from interpretops.artifacts import ArtifactKind
    from interpretops.errors import InterpretOpsError
    from interpretops.reports import ReportSpec

    bench = Workbench.open(config)
    if card is None:
        cards = bench.store.ls(ArtifactKind.RISK_CARD)
        if circuit_id is not None:
            wanted = bench.store.get(circuit_id).id
            cards = [c for c in cards if wanted in {m.id for m in bench.store.lineage(c.id)}]
        if not cards:
            raise InterpretOpsError(
                "there is no Risk Card to report on", fix="make one with `mechctl eval`"
            )
        card = cards[-1].id
    settings = bench.config
    with watching() as monitor:
        made = bench.write_report(
            card,
            ReportSpec(
                retention_days=settings.compliance.retention_days,
                store_address=settings.store.s3_endpoint,
            ),
            monitor,
        )
    out_path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made.pdf, out_path)
    out.print(f"[green]✓[/] {made.id}  written to {out_path}")


def show_card(card: RiskCardArtifact) -> None:
    """Print a Risk Card."""
    from interpretops.evals import to_table

    out.print(to_table(card.card))
