"""`mechctl drift`: whether a policy still sees what it was fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from interpretops.cli.bench import LocalBench, Workbench
from interpretops.cli.console import out, watching
from interpretops.cli.discover import load_redacted
from interpretops.cli.options import ConfigOption, SaeOption

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from interpretops.drift import DriftReport, Reference
    from interpretops.drift.comparison import RateShift
    from interpretops.steering import Policy

_SHOWN = 12


def drift(
    policy: Annotated[
        str,
        typer.Argument(help="A policy: on a platform its name; here a file, folder or artifact."),
    ],
    other: Annotated[
        str | None, typer.Argument(help="Compare with this policy's instead (here only).")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            "-p",
            help="Here: prompts that came in, instead of those that it was checked on.",
            show_default=False,
        ),
    ] = None,
    hours: Annotated[
        int | None,
        typer.Option(
            min=1, max=744, help="There: the latest hours to look at.", show_default=False
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="There: fit, or traffic (the version's first requests)."),
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="There: another version than the active one.")
    ] = None,
    sae: SaeOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it, as JSON.")] = False,
) -> None:
    """Compare what a policy sees now with what it was fitted on; exits 1 where that drifted.

    On a platform (--api) it is the traffic of a policy in production. Here it is read again by the
    model of the settings, which may be another version than the policy was fitted to: the prompts that
    it was checked on, or those of a file. Circuits are compared by `mechctl circuits diff`.

    Example: mechctl --api local drift jailbreak-v1 --hours 24

    Example: mechctl drift ./policy --prompts yesterday.jsonl
    """
    from interpretops.drift import Verdict

    bench = Workbench.open(config)
    if isinstance(bench, LocalBench):
        _require_none(hours=hours, against=against, version=version)
        report = _here(bench, policy, other, prompts, sae)
    else:
        report = _there(bench, policy, other, prompts, hours, against, version)
    if as_json:
        out.print_json(report.model_dump_json())
    else:
        show_drift(report)
    if report.verdict is Verdict.DRIFTED:
        raise typer.Exit(1)


def _here(
    bench: LocalBench, policy: str, other: str | None, prompts: str | None, sae: str | None
) -> DriftReport:
    """Compare with the engine."""
    from interpretops.demo import DemoData
    from interpretops.drift import compare
    from interpretops.steering import traffic_of
    from interpretops.steering.goal import goal_for

    loaded, dictionary = bench.open_policy(policy, sae)
    chat = goal_for(loaded.meta.target_class).chat
    if prompts is None:
        found = DemoData(bench.redactor).fitting(loaded.meta.target_class).validation_harmless
        texts = [prompt.text for prompt in found]
    else:
        texts = [prompt.text for prompt in load_redacted(prompts, bench)]
    kept = _reference(loaded.folder)
    with watching() as monitor:
        now = traffic_of(
            bench.model,
            _for_any_model(loaded),
            texts,
            dictionary=dictionary,
            chat=chat,
            monitor=monitor,
        )
        if other is not None:
            second, shelf = bench.open_policy(other, sae)
            usual = traffic_of(
                bench.model, _for_any_model(second), texts, dictionary=shelf, chat=chat
            )
        elif kept is not None:
            usual = kept.harmless
        else:
            raise _no_reference(policy)
    if kept is not None and kept.model != bench.model.ref.fingerprint:
        out.print(
            f"[yellow]{policy} was fitted to another model[/] (fingerprint {kept.model[:12]}, this one "
            f"is {bench.model.ref.fingerprint[:12]}): what changed is the model's doing as well"
        )
    return compare(usual, now)


def _there(
    bench: Workbench,
    policy: str,
    other: str | None,
    prompts: str | None,
    hours: int | None,
    against: str | None,
    version: int | None,
) -> DriftReport:
    """Ask a platform."""
    from interpretops.cli.remote import RemoteBench
    from interpretops.drift import DriftReport

    assert isinstance(bench, RemoteBench)
    if other is not None or prompts is not None:
        from interpretops.errors import InterpretOpsError

        raise InterpretOpsError(
            "a platform compares the traffic that it had, not prompts or policies from here",
            fix="leave out --api, or leave out --prompts and the second policy",
        )
    found = bench.client.policies.drift(policy, hours=hours, reference=against, version=version)
    out.print(
        f"[bold]{found['policy']}@{found['version']}[/]  {found['since'][:16]} to "
        f"{found['until'][:16]}, against "
        + ("what it was fitted on" if found["reference"] == "fit" else "earlier traffic")
    )
    return DriftReport.model_validate(found["report"])


def show_drift(report: DriftReport) -> None:
    """Print what came of a comparison."""
    from rich.table import Table

    colour = {"drifted": "red", "watch": "yellow", "stable": "green"}.get(report.verdict, "dim")
    out.print(
        f"[{colour} bold]{report.verdict.value.replace('_', ' ')}[/]  {report.requests} requests against "
        f"{report.reference_requests}"
    )
    for reason in report.reasons:
        out.print(f"• {reason}", markup=False)
    if report.score is not None:
        score = report.score
        out.print(
            f"scores: PSI {score.psi:.3f} (by chance {score.psi_expected:.3f}), KS {score.ks:.3f} "
            f"(p {score.ks_p:.2g})"
        )
    rates = [*([report.condition] if report.condition else []), *report.features[:_SHOWN]]
    if rates:
        table = Table(box=None, pad_edge=False)
        for name in ("unit", "before", "now", "difference", "p (Holm)", "q (BH)"):
            table.add_column(name, justify="left" if name == "unit" else "right")
        for rate in rates:
            table.add_row(*_row(rate))
        out.print(table)
    for advice in report.advice:
        out.print(f"→ {advice}", markup=False)


def _row(rate: RateShift) -> Sequence[str]:
    return (
        rate.unit,
        f"{rate.reference:.1%}",
        f"{rate.window:.1%}",
        f"{100 * rate.difference:+.1f} [{100 * rate.low:+.1f}, {100 * rate.high:+.1f}]",
        f"{rate.p:.2g}",
        f"{rate.q:.2g}",
    )


def _for_any_model(policy: Policy) -> Policy:
    """The policy without the model that it insists on: another one is what is to be seen."""
    meta = policy.meta.model_copy(update={"model": None})
    return policy.model_copy(update={"meta": meta}).within(policy.folder)


def _reference(folder: Path) -> Reference | None:
    from interpretops.drift import Reference
    from interpretops.steering.reference import REFERENCE

    file = folder / REFERENCE
    return Reference.model_validate_json(file.read_bytes()) if file.is_file() else None


def _no_reference(policy: str) -> Exception:
    from interpretops.errors import InterpretOpsError

    return InterpretOpsError(
        f"{policy} kept nothing of what it saw when it was fitted",
        fix="fit it again (`mechctl policy propose`), or give a second policy to compare with",
    )


def _require_none(**options: object) -> None:
    """Refuse options that only a platform can serve."""
    from interpretops.errors import InterpretOpsError

    given = next((name for name, value in options.items() if value is not None), None)
    if given is not None:
        raise InterpretOpsError(
            f"--{given} is for a platform, which has had traffic",
            fix="add --api (`mechctl --api local drift NAME`), or give --prompts",
        )
