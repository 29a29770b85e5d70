"""`mechctl trace`, `sae-train` and `search`: from prompts to a circuit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from interpretops.cli.bench import Workbench
from interpretops.cli.console import out, watching
from interpretops.cli.options import ConfigOption, OutOption

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops.artifacts import Manifest
    from interpretops.prompts import PromptSet

PromptsOption = Annotated[
    str,
    typer.Option(
        "--prompts",
        "-p",
        help="JSON, JSONL, CSV or text file; - for standard input; or package:NAME for the project's own.",
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option("--layers", help="Layers, such as 12,18; two by default.", show_default=False),
]


def trace(
    prompts: PromptsOption,
    config: ConfigOption = None,
    layers: LayersOption = None,
    positions: Annotated[
        str, typer.Option(help="Tokens to keep: all, last, or prompt (the user's own text).")
    ] = "all",
    out_dir: OutOption = None,
) -> None:
    """Record a model's activations on a batch of prompts.

    Example: mechctl trace --prompts attacks.jsonl --layers 14,18 --out traces
    """
    from interpretops.cli.validate import checked
    from interpretops.tracing import TraceSpec

    bench = Workbench.open(config)
    chosen = chosen_layers(layers, bench)
    spec = checked(
        TraceSpec,
        {"sites": "--layers", "shard_mb": "runtime.memory_mb"},
        sites=tuple(f"resid_post.{layer}" for layer in chosen),
        positions=positions,
        shard_mb=max(1.0, bench.config.runtime.memory_mb / 4),
    )
    loaded = load_redacted(prompts, bench)
    with watching() as monitor:
        made = bench.trace(loaded, spec, monitor)
    finish(bench, made, out_dir, "sae-train --traces")


def sae_train(
    traces: Annotated[
        str | None,
        typer.Option("--traces", help="A trace: its id or --out folder.", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", "-p", help="Or prompts, streamed through the model.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    layers: LayersOption = None,
    kind: Annotated[str, typer.Option(help="topk, batch_topk, jumprelu or gated.")] = "topk",
    features: Annotated[
        int | None,
        typer.Option(help="Features per layer; 8 times the width by default.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option(help="Active features per token (topk, batch_topk).")] = 32,
    tokens: Annotated[int, typer.Option(help="Activations to train on, per layer.")] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Activations per step of training.")] = 2048,
    seed: Annotated[int, typer.Option(help="Seed of weights and of the data's order.")] = 0,
    out_dir: OutOption = None,
) -> None:
    """Train sparse autoencoders on a trace, or on prompts streamed through the model.

    Example: mechctl sae-train --traces traces --kind topk --features 4608 --out sae
    """
    from interpretops.cli.validate import checked
    from interpretops.errors import InterpretOpsError
    from interpretops.sae import DictionarySpec

    bench = Workbench.open(config)
    if (traces is None) == (prompts is None):
        raise InterpretOpsError(
            "sae-train needs one source of activations", fix="give either --traces or --prompts"
        )
    sites = (
        _traced_sites(bench.store.get(traces))
        if traces is not None and layers is None
        else tuple(f"resid_post.{layer}" for layer in chosen_layers(layers, bench))
    )
    source = traces if traces is not None else load_redacted(str(prompts), bench)
    spec = checked(
        DictionarySpec,
        {"sites": "--layers", "d_sae": "--features"},
        sites=sites,
        kind=kind,
        d_sae=features,
        k=k,
        tokens=tokens,
        batch=batch,
        seed=seed,
    )
    with watching() as monitor:
        made = bench.train_dictionary(source, spec, monitor)
    finish(bench, made, out_dir, "search --sae")


def search(
    prompts: PromptsOption,
    risk_class: Annotated[
        str,
        typer.Option(
            "--class",
            help="The risk: toxicity is read off the words that follow, others off refusals.",
        ),
    ] = "jailbreak",
    sae: Annotated[
        str | None,
        typer.Option("--sae", help="A dictionary: its id or --out folder.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    split: Annotated[
        str, typer.Option(help="Take only this split where prompts have one.")
    ] = "train",
    keep: Annotated[
        float, typer.Option(help="Share of the effect that the circuit must keep.")
    ] = 0.8,
    method: Annotated[
        str, typer.Option(help="eap_ig (fast) or acdc (a forward for every head and MLP).")
    ] = "eap_ig",
    threshold: Annotated[
        float, typer.Option(help="Share of the effect that keeps a unit (acdc).")
    ] = 0.01,
    pairs: Annotated[int, typer.Option(help="Pairs to search on, at most.")] = 48,
    seed: Annotated[int, typer.Option(help="Draws pairs and resamples.")] = 0,
    out_dir: OutOption = None,
) -> None:
    """Find the circuit behind a risk: the units that tell risky prompts from harmless ones.

    A prompt with a "twin" is compared with it, others with packaged harmless prompts of equal length.
    Prompts with a "correct" and a "wrong" continuation are compared by these instead.

    Example: mechctl search --class jailbreak --prompts package:jailbreak --sae sae --out circuits
    """
    from interpretops import circuits
    from interpretops.cli.validate import checked

    bench = Workbench.open(config)
    pairs_given, without_twin = circuits.contrast_of(prompts_of_split(prompts, split, bench))
    task = circuits.ContrastTask(
        risk_class=risk_class,
        pairs=pairs_given,
        prompts=without_twin,
        behaviour=circuits.behaviour_for(risk_class, pairs_given),
    )
    spec = checked(
        circuits.SearchSpec,
        method=method,
        keep=keep,
        threshold=threshold,
        pairs=pairs,
        seed=seed,
    )
    with watching() as monitor:
        made = bench.search(task, spec, sae, monitor)
    show_circuit(made)
    finish(bench, made.manifest, out_dir, "policy propose --circuit")


def show_circuit(circuit: object) -> None:
    """Print a circuit's strongest units and how well it explains the behaviour."""
    from rich.table import Table

    from interpretops.circuits import Circuit, Unit

    assert isinstance(circuit, Circuit)
    graph = circuit.graph
    table = Table("unit", "CCS", "95 % interval", box=None, pad_edge=False)
    for name, ccs in [(u.unit, u.ccs) for u in graph.units if u.ccs is not None][:10]:
        table.add_row(name, f"{ccs.value:+.3f}", f"{ccs.low:+.3f} to {ccs.high:+.3f}")
    out.print(table)
    size = sum(Unit.parse(unit.unit).is_component for unit in graph.units)
    out.print(
        f"{size} of {graph.components} heads and MLPs keep {graph.faithfulness.value:.0%} of the "
        f"effect on held-out pairs; stability {graph.stability.value:.2f} "
        f"({graph.stability.low:.2f} to {graph.stability.high:.2f}), between disjoint halves "
        f"{graph.split_half.value:.2f}; estimates against exact patching: rank correlation "
        f"{graph.calibration.spearman:.2f} (n = {graph.calibration.n})."
    )
    if graph.borrowed is not None:
        out.print(f"[yellow]{graph.borrowed.words}.[/]")


def prompts_of_split(ref: str, split: str, bench: Workbench) -> PromptSet:
    """Prompts, of one split where they have one.

    Raises:
        InterpretOpsError: When that split has none.
    """
    from interpretops.errors import InterpretOpsError

    loaded = load_redacted(ref, bench)
    if all(prompt.split is None for prompt in loaded):
        return loaded
    chosen = loaded.filter(lambda prompt: prompt.split == split)
    if not len(chosen):
        raise InterpretOpsError(
            f"no prompt of {loaded.source} is in the {split} split",
            fix="name another one with --split",
        )
    return chosen


def load_redacted(ref: str, bench: Workbench) -> PromptSet:
    """Prompts, scrubbed where the settings ask for it."""
    from interpretops.prompts import load_prompts

    return load_prompts(ref, redact=bench.redactor)


def finish(bench: Workbench, manifest: Manifest, out_dir: Path | None, following: str) -> None:
    """Say what was made and what comes next; copy it where the user asked."""
    ref = manifest.id
    if out_dir is not None:
        bench.store.export(manifest.id, out_dir)
        ref = str(out_dir)
    out.print(f"[green]✓[/] {manifest.id}" + (f"  copied to {out_dir}" if out_dir else ""))
    out.print(f"[dim]next: mechctl {following} {ref}[/]")


def _traced_sites(manifest: Manifest) -> tuple[str, ...]:
    """The sites of a trace, by its manifest alone: its payload may be large and far away.

    Raises:
        InterpretOpsError: When it is another kind of artifact.
    """
    from interpretops.errors import InterpretOpsError

    sites = manifest.summary.get("sites")
    if manifest.kind != "trace" or not isinstance(sites, list):
        raise InterpretOpsError(
            f"{manifest.id} is a {manifest.kind.replace('_', ' ')}, not a trace",
            fix="pass a trace (its id begins with tr_)",
        )
    return tuple(str(site) for site in sites)


def chosen_layers(text: str | None, bench: Workbench) -> tuple[int, ...]:
    """The layers that --layers names, or the model's default two.

    Raises:
        InterpretOpsError: When it is not a list of numbers.
    """
    from interpretops.demo import layers
    from interpretops.errors import InterpretOpsError

    if text is None:
        return layers(bench.n_layers)
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InterpretOpsError(
            f"--layers {text!r} is not a list of numbers", fix="write it as 12,18"
        ) from error
