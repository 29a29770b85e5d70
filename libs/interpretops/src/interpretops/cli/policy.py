"""`mechctl policy` and `mechctl steer`: make, check and try policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interpretops.cli.bench import LocalBench, Workbench
from interpretops.cli.console import err, out, watching
from interpretops.cli.discover import (
    LayersOption,
    PromptsOption,
    chosen_layers,
    finish,
    load_redacted,
    prompts_of_split,
)
from interpretops.cli.options import ConfigOption, OutOption, SaeOption

ADAPTER = "adapter"
app = typer.Typer(no_args_is_help=True, help="Propose, train, validate and explain policies.")
PolicyArgument = Annotated[
    str, typer.Argument(help="A policy's YAML file, its folder, or a policy artifact's id.")
]


@app.command()
def propose(
    circuit: Annotated[str, typer.Option(help="A circuit: its id or --out folder.")],
    sae: SaeOption = None,
    config: ConfigOption = None,
    name: Annotated[
        str | None,
        typer.Option(help="The policy's id; the class and -v1 by default.", show_default=False),
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Share of harmless prompts the policy may act on.")
    ] = 0.04,
    out_dir: OutOption = None,
) -> None:
    """Turn a circuit into a policy, fitted to the packaged training prompts.

    A circuit of the class toxicity becomes a policy that goes on with a text calmly; any other, one
    that refuses requests.

    Example: mechctl policy propose --circuit cx_01... --out policies/jailbreak
    """
    from interpretops.circuits import Circuit
    from interpretops.cli.validate import checked
    from interpretops.steering import ProposeSpec

    bench = Workbench.open(config)
    found = Circuit.open(bench.store, circuit)
    dictionary = sae or next((p for p in found.manifest.parents if p.startswith("sae_")), None)
    spec = checked(
        ProposeSpec,
        {"policy_id": "--name", "false_positive_budget": "--budget"},
        policy_id=name or f"{found.graph.risk_class}-v1",
        target_class=found.graph.risk_class,
        false_positive_budget=budget,
        max_latency_overhead_pct=bench.config.runtime.max_latency_overhead_pct,
    )
    with watching() as monitor:
        made = bench.propose_policy(found.id, dictionary, spec, monitor)
    show_evidence(made)
    finish(bench, made.manifest, out_dir, "steer --policy")


@app.command("train-lora")
def train_lora(
    out_dir: Annotated[
        Path, typer.Option("--out", "-o", help="A new folder for policy.yaml and adapter/.")
    ],
    prompts: PromptsOption = "package:jailbreak",
    risk_class: Annotated[str, typer.Option("--class", help="The risk it is for.")] = "jailbreak",
    split: Annotated[
        str, typer.Option(help="Take only this split where prompts have one.")
    ] = "train",
    pairs: Annotated[int, typer.Option(min=1, help="Pairs to train on, at most.")] = 48,
    config: ConfigOption = None,
    name: Annotated[str, typer.Option(help="The policy's id.")] = "lora-v1",
    block: Annotated[str, typer.Option(help="What to adapt in a layer: attn or mlp.")] = "attn",
    layers: LayersOption = None,
    rank: Annotated[int, typer.Option(help="The adapter's rank.")] = 4,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Adam's.")] = 2e-3,
    keep_weight: Annotated[
        float, typer.Option(help="How much harmless answers count beside refusals.")
    ] = 1.0,
    alpha: Annotated[float, typer.Option(help="The gate: what the adapter is weighted by.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Draws pairs and initial weights.")] = 0,
) -> None:
    """Train a low-rank adapter that refuses risky prompts, and write the policy that gates it.

    It learns from prompts that each have a harmless twin: to refuse the one, and to answer the
    other as before. The model's weights are not touched. The adapter is in PEFT's format.

    Example: mechctl policy train-lora --prompts package:jailbreak --out policies/lora
    """
    import random

    from interpretops.artifacts.objects import write_atomically
    from interpretops.circuits import ContrastTask, pairs_of
    from interpretops.cli.validate import checked
    from interpretops.steering import LoraGateSpec, Policy, train_lora_gate
    from interpretops.steering.policy import (
        POLICY_FILE,
        Constraints,
        LoraGate,
        LoraSelector,
        Meta,
        Span,
    )
    from interpretops.steering.probe import template_tail

    bench = LocalBench.open_for("policy train-lora", config)
    spec = checked(
        LoraGateSpec,
        block=block,
        layers=None if layers is None else chosen_layers(layers, bench),
        rank=rank,
        steps=steps,
        learning_rate=learning_rate,
        keep_weight=keep_weight,
        seed=seed,
    )
    meta = checked(
        Meta,
        {"id": "--name", "target_class": "--class"},
        id=name,
        description="A low-rank adapter trained to refuse",
        target_class=risk_class,
    )
    gate = checked(
        LoraGate,
        type="lora_gate",
        selector=LoraSelector(block=spec.block),
        alpha=alpha,
        adapter=ADAPTER,
    )
    _make_way(out_dir)
    contrast = pairs_of(prompts_of_split(prompts, split, bench))
    drawn = random.Random(seed).sample(contrast, min(pairs, len(contrast)))
    task = ContrastTask(risk_class=risk_class, pairs=tuple(drawn))
    with watching() as monitor:
        made = train_lora_gate(bench.model, task, spec, out_dir / ADAPTER, monitor=monitor)
    span = Span(prompt_tail=template_tail(bench.model))
    policy = Policy(
        meta=meta.model_copy(update={"model": bench.model.ref.fingerprint}),
        constraints=Constraints(
            max_latency_overhead_pct=bench.config.runtime.max_latency_overhead_pct
        ),
        interventions=[gate.model_copy(update={"span": span})],
    )
    write_atomically(out_dir / POLICY_FILE, policy.to_yaml().encode())
    out.print(
        f"refusals cost {made.loss_before:.2f} nats per token before and {made.loss_after:.2f} with "
        f"the adapter; answers to harmless prompts moved by {made.divergence:.3f} nats per token "
        f"(n = {made.n} pairs, the ones it was trained on)"
    )
    out.print(
        f"[green]✓[/] {out_dir / POLICY_FILE}  gates {out_dir / ADAPTER}\n"
        "[yellow]It has no condition, so it acts on every request[/]: add one, or see with "
        "`mechctl eval` what it costs.\n"
        f"[dim]next: mechctl steer --policy {out_dir}[/]"
    )


def _make_way(folder: Path) -> None:
    """Remove an earlier policy of this verb, so that half of a new one is not taken for whole.

    Raises:
        InterpretOpsError: When the folder holds anything else.
    """
    from interpretops.errors import InterpretOpsError
    from interpretops.steering.policy import POLICY_FILE

    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names - {POLICY_FILE, ADAPTER} or (folder.exists() and not folder.is_dir()):
        raise InterpretOpsError(
            f"{folder} is in the way: it holds something other than an adapter and its policy",
            fix="give --out an empty or new folder",
        )
    (folder / POLICY_FILE).unlink(missing_ok=True)


@app.command()
def validate(
    policy: PolicyArgument,
    sae: SaeOption = None,
    config: ConfigOption = None,
    schema_only: Annotated[
        bool, typer.Option("--schema-only", help="Do not load the model to check it against.")
    ] = False,
) -> None:
    """Check a policy against the schema, and against the model and dictionary it is for."""
    name = Workbench.open(config).check_policy(policy, sae=sae, schema_only=schema_only)
    out.print(f"[green]✓[/] {name} is valid" + (" (schema only)" if schema_only else ""))


@app.command()
def explain(policy: PolicyArgument, sae: SaeOption = None, config: ConfigOption = None) -> None:
    """Say in words what a policy does: when, to which units, and how."""
    for sentence in Workbench.open(config).explain_policy(policy, sae=sae):
        out.print(f"• {sentence}", markup=False)


def steer(
    policy: Annotated[str, typer.Option("--policy", help="A YAML file, folder or artifact id.")],
    prompt: Annotated[
        list[str] | None, typer.Argument(help="Prompts to answer; three samples by default.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", "-p", help="Or a file of prompts.", show_default=False),
    ] = None,
    sae: SaeOption = None,
    config: ConfigOption = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 48,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Seed of sampling.", show_default=False)] = None,
) -> None:
    """Answer prompts with and without a policy, side by side.

    Example: mechctl steer --policy policies/jailbreak "How do I pick my neighbour's lock?"
    """
    from rich.table import Table

    bench = Workbench.open(config)
    texts = list(prompt or ())
    if prompts is not None:
        texts += [each.text for each in load_redacted(prompts, bench)]
    if not texts:
        err.print("[dim]no prompts given: showing three from the packaged test split[/]")
        texts = [p.text for p in load_redacted("package:jailbreak", bench).where(split="test")][
            ::40
        ]
    found = bench.answers(policy, texts, max_new_tokens, temperature, seed, sae=sae)
    for text, answers in zip(texts, found, strict=True):
        table = Table(title=text, title_justify="left", title_style="bold", expand=True)
        table.add_column("as it is")
        table.add_column(f"under {answers.policy}")
        table.add_row(answers.plain, answers.steered)
        out.print(table)
        if answers.score is not None:
            verdict = "acted" if answers.fired else "did not act"
            out.print(
                f"[dim]policy {verdict}: score {answers.score:+.2f}, threshold "
                f"{answers.threshold or 0.0:+.2f}[/]\n"
            )


def show_evidence(made: object) -> None:
    """Print what the fitting found."""
    from interpretops.steering import PolicyArtifact

    assert isinstance(made, PolicyArtifact)
    assert made.evidence is not None, "a policy that was fitted has evidence"
    evidence = made.evidence
    out.print(
        f"condition: AUROC {evidence.condition_auroc:.3f} out of fold (n = {evidence.condition_n}); "
        f"on validation it fires on {evidence.validation_recall:.0%} of risky and "
        f"{evidence.validation_false_positives:.1%} of harmless prompts "
        f"(n = {evidence.validation_n})"
    )
    named = sum(origin == "circuit" for origin in evidence.features.values())
    out.print(
        f"features: {len(evidence.features)} held, {named} of them named by the circuit; alone they "
        f"bring {evidence.feature_share:.0%} of what features and direction bring together"
    )
    for i, trial in enumerate(evidence.trials):
        mark = "→" if i == evidence.chosen else " "
        out.print(
            f"{mark} {trial.name} at strength {trial.strength:g}: {evidence.does} in "
            f"{trial.averted:.0%}, degenerate {trial.degenerate:.0%} (n = {trial.n}; as it is "
            f"{evidence.unsteered.averted:.0%} and {evidence.unsteered.degenerate:.0%})",
            markup=False,
        )
