"""`mechctl demo`: the whole job on a real model, resumable, and honest about what it missed."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interpretops.cli.bench import Workbench
from interpretops.cli.console import err, out, watching
from interpretops.cli.discover import show_circuit
from interpretops.cli.judge import show_card
from interpretops.cli.options import ConfigOption
from interpretops.cli.policy import show_evidence
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.cli.bench import Connection
    from interpretops.evals import RiskCardArtifact


STARTERS = "interpretops.platforms"
"""Entry points of other packages: functions that bring a platform up here and say where it is."""


def demo(
    config: ConfigOption = None,
    folder: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write the report and the card.")
    ] = Path("./demo"),
    local: Annotated[
        bool, typer.Option("--local", help="In this process, without a platform.")
    ] = False,
) -> None:
    """Trace, explain, steer, measure and report on a real model, in ten to twenty minutes on two cores.

    The work is done by the platform that --api names, else by one that is started on this machine
    and left up. Everything made is kept: stopped and started again, it goes on where it was.
    """
    started = time.monotonic()
    if local:
        Workbench.connection = None
    elif Workbench.connection is None:
        Workbench.connection = _start_platform(config)
    bench = Workbench.open(config)
    card = _run(bench, folder)
    _before_and_after(card)
    show_card(card)
    _conclude(card, folder, time.monotonic() - started)
    if Workbench.connection is not None:
        out.print(f"the platform is up at [bold]{Workbench.connection.api}[/]")
        if Workbench.connection.dashboard is not None:
            out.print(f"look at it: [bold]{Workbench.connection.dashboard}[/]")


def _start_platform(config: Path | None) -> Connection:
    """Bring up the platform of this machine.

    Raises:
        InterpretOpsError: When it is not installed or does not come up.
    """
    from importlib.metadata import entry_points

    for found in entry_points(group=STARTERS):
        start: Callable[[Path | None], Connection] = found.load()
        return start(config)
    raise InterpretOpsError(
        "the demonstration runs on a platform, and none is installed here",
        fix="pip install interpretops-stack, name one with --api, or use `mechctl demo --local`",
    )


def _run(bench: Workbench, folder: Path) -> RiskCardArtifact:
    """Make everything, and leave report, card and policy in a folder."""
    from interpretops import demo as settings
    from interpretops import evals
    from interpretops.evals import EvalSpec
    from interpretops.reports import ReportSpec
    from interpretops.sae import Dictionary

    data = settings.DemoData(bench.redactor)
    out.print(bench.describe())
    with watching() as monitor:
        _step(1, "Trace: what the model computes on attacks and harmless prompts")
        prompts = data.trace_prompts()
        trace = bench.trace(prompts, settings.trace_spec(bench.n_layers), monitor)
        _made(trace.id, f"{len(prompts)} prompts")

        _step(2, "Dictionaries: sparse features at two layers")
        spec = settings.dictionary_spec(bench.n_layers)
        dictionary = Dictionary.open(
            bench.store, bench.train_dictionary(trace.id, spec, monitor).id
        )
        for site, found in dictionary.index.evaluation.items():
            out.print(
                f"  {site}: L0 {found.l0:.1f}, FVU {found.fvu:.3f}, "
                f"silent {found.silent_share:.0%}, cross-entropy recovered "
                f"{found.recovered_vs_mean.value:.1%}"
            )
        _made(dictionary.id)

        _step(3, "Circuit: which heads, MLPs and features tell an attack from its harmless twin")
        circuit = bench.search(data.contrast(), settings.search_spec(), dictionary.id, monitor)
        show_circuit(circuit)
        _made(circuit.id)

        _step(4, "Policy: fit when to act and what to hold, on training prompts")
        policy = bench.propose_policy(circuit.id, dictionary.id, settings.propose_spec(), monitor)
        show_evidence(policy)
        _made(policy.id)

        _step(5, "Evaluation: on topics and wrappers that fitting never saw")
        runtime = bench.config.runtime
        measured = EvalSpec(
            batch_size=96,
            comparison_prompts=16,
            price_per_hour=runtime.price_per_hour,
            currency=runtime.currency,
            max_latency_overhead_pct=runtime.max_latency_overhead_pct,
        )
        card = bench.evaluate(
            policy.id,
            measured,
            monitor,
            suites=settings.SUITES,
            circuit=circuit.id,
            sae=dictionary.id,
        )
        _made(card.id)

        _step(6, "Report: an audit PDF with lineage and the privacy principles")
        stored = bench.config.store.s3_endpoint
        days = bench.config.compliance.retention_days
        report = bench.write_report(
            card.id, ReportSpec(retention_days=days, store_address=stored), monitor
        )
        _made(report.id)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(report.pdf, folder / "report.pdf")
    (folder / "risk_card.json").write_text(card.card.model_dump_json(indent=2))
    (folder / "risk_card.html").write_text(evals.to_html(card.card))
    shutil.rmtree(folder / "policy", ignore_errors=True)
    bench.store.export(policy.id, folder / "policy")
    if Workbench.connection is not None:
        for made in (trace.id, dictionary.id, circuit.id):
            _bring_here(bench, made)
    return card


def _bring_here(bench: Workbench, artifact: str) -> None:
    """Keep a platform's artifact on this machine too, so that what goes on from it needs no platform."""
    from interpretops.artifacts import ArtifactStore

    store = ArtifactStore(bench.config.cache.dir)
    if artifact in store.ids():
        return
    with tempfile.TemporaryDirectory(prefix="interpretops-demo-") as folder:
        copy = bench.store.export(artifact, Path(folder) / artifact)
        store.import_folder(copy)


def _step(number: int, title: str) -> None:
    out.print(f"\n[bold cyan]{number}/6[/] [bold]{title}[/]")


def _made(identifier: str, note: str = "") -> None:
    out.print(f"  [green]✓[/] {identifier}" + (f"  [dim]{note}[/]" if note else ""))


def _before_and_after(card: RiskCardArtifact) -> None:
    """Three attacks of the test split, one per category, chosen by order and not by outcome."""
    from rich.table import Table

    shown: dict[str | None, object] = {}
    table = Table(title="Three attacks, before and after", show_lines=True, expand=True)
    for column in ("attack", "as it is", "steered"):
        table.add_column(column, ratio=1)
    for sample in card.samples():
        if sample.suite.startswith("jailbreak") and sample.category not in shown:
            shown[sample.category] = sample
            table.add_row(sample.prompt, sample.baseline, sample.steered)
        if len(shown) == 3:
            break
    out.print(table)


def _conclude(card: RiskCardArtifact, folder: Path, seconds: float) -> None:
    if card.card.passed:
        out.print("[bold green]Every criterion of the win line was met on the test split.[/]")
    else:
        missed = ", ".join(dict.fromkeys(c.name for c in card.card.missed))
        out.print(f"[bold red]Missed on the test split: {missed}.[/]")
    minutes, rest = divmod(round(seconds), 60)
    out.print(
        f"report {folder / 'report.pdf'}   card {folder / 'risk_card.html'}   "
        f"policy {folder / 'policy'}   [dim]{minutes} min {rest} s[/]"
    )
    err.print(
        f"[dim]try it: mechctl steer --policy {folder / 'policy'} "
        '"How can I steal a car without getting caught?"[/]'
    )
