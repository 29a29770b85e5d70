"""`mechctl demo`: the whole job on a real model, resumable, and honest about what it missed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interpretops.cli.console import err, out, watching
from interpretops.cli.discover import show_circuit
from interpretops.cli.judge import show_card
from interpretops.cli.options import ConfigOption, Workbench
from interpretops.cli.policy import show_evidence

if TYPE_CHECKING:
    from interpretops.evals import RiskCardArtifact


def demo(
    config: ConfigOption = None,
    folder: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write the report and the card.")
    ] = Path("./demo"),
) -> None:
    """Trace, explain, steer, measure and report on a real model, in ten minutes or so.

    Everything it makes is kept: stopped and started again, it goes on where it was.
    """
    from interpretops import demo as settings
    from interpretops import evals, tracing
    from interpretops.circuits import search
    from interpretops.evals import EvalSpec, load_suites
    from interpretops.prompts import contrast_set
    from interpretops.reports import ReportSpec, write_report
    from interpretops.sae import train_dictionary
    from interpretops.steering import propose_policy

    started = time.monotonic()
    bench = Workbench.open(config)
    data = settings.DemoData(bench.redactor)
    model, store = bench.model, bench.store
    out.print(
        f"[bold]{model.name}[/]  {model.n_layers} layers, {model.n_heads} heads, on {model.device}; "
        f"artifacts in {bench.config.cache.dir}"
    )
    with watching() as monitor:
        _step(1, "Trace: what the model computes on attacks and harmless prompts")
        trace = tracing.trace(
            model, data.trace_prompts(), settings.trace_spec(model), store=store, monitor=monitor
        )
        _made(trace.manifest.id, f"{len(trace.prompts)} prompts")

        _step(2, "Dictionaries: sparse features at two layers")
        dictionary = train_dictionary(
            model, trace, settings.dictionary_spec(model), store=store, monitor=monitor
        )
        for site, found in dictionary.index.evaluation.items():
            out.print(
                f"  {site}: L0 {found.l0:.1f}, FVU {found.fvu:.3f}, "
                f"silent {found.silent_share:.0%}, cross-entropy recovered "
                f"{found.recovered_vs_mean.value:.1%}"
            )
        _made(dictionary.id)

        _step(3, "Circuit: which heads, MLPs and features tell an attack from its harmless twin")
        circuit = search(
            model,
            data.contrast(),
            settings.search_spec(),
            dictionary=dictionary,
            redacted=bench.redacted,
            store=store,
            monitor=monitor,
        )
        show_circuit(circuit)
        _made(circuit.id)

        _step(4, "Policy: fit when to act and what to hold, on training prompts")
        policy = propose_policy(
            model,
            circuit,
            data.fitting(),
            settings.propose_spec(),
            dictionary=dictionary,
            redacted=bench.redacted,
            store=store,
            monitor=monitor,
        )
        show_evidence(policy)
        _made(policy.id)

        _step(5, "Evaluation: on topics and wrappers that fitting never saw")
        runtime = bench.config.runtime
        card = evals.evaluate(
            model,
            policy.policy,
            load_suites(settings.SUITES, redact=bench.redactor),
            EvalSpec(
                comparison_prompts=16,
                price_per_hour=runtime.price_per_hour,
                currency=runtime.currency,
                max_latency_overhead_pct=runtime.max_latency_overhead_pct,
            ),
            circuit=circuit,
            dictionary=dictionary,
            contrast=contrast_set(data.attacks, data.wrappers, split="train"),
            parents=[policy.id],
            redact=bench.redactor,
            store=store,
            monitor=monitor,
        )
        _made(card.id)

        _step(6, "Report: an audit PDF with lineage and the privacy principles")
        report = write_report(
            card.id,
            ReportSpec(
                retention_days=bench.config.compliance.retention_days,
                store_address=bench.config.store.s3_endpoint,
            ),
            store=store,
            monitor=monitor,
        )
        _made(report.id)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(report.pdf, folder / "report.pdf")
    (folder / "risk_card.json").write_text(card.card.model_dump_json(indent=2))
    (folder / "risk_card.html").write_text(evals.to_html(card.card))
    shutil.rmtree(folder / "policy", ignore_errors=True)
    store.export(policy.id, folder / "policy")

    _before_and_after(card)
    show_card(card)
    _conclude(card, folder, time.monotonic() - started)


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
