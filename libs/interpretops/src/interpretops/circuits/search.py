"""Circuit search: attribute, leave out what the effect does not need, measure what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file

from interpretops.artifacts import ArtifactKind, Handle
from interpretops.circuits.batches import Batches
from interpretops.circuits.borrowing import with_borrowed
from interpretops.circuits.export import attribution_graph
from interpretops.circuits.graph import (
    Borrowed,
    Calibration,
    CircuitGraph,
    CurvePoint,
    Measured,
    ScoredUnit,
    Unit,
)
from interpretops.circuits.journal import Journal
from interpretops.circuits.pruning import acdc, by_attribution, by_strength, needed
from interpretops.circuits.statistics import (
    bootstrap_stability,
    mean,
    spearman,
    split_half_stability,
)
from interpretops.circuits.task import ContrastTask, aligned
from interpretops.errors import InterpretOpsError
from interpretops.progress import SILENT, Monitor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from interpretops.artifacts import ArtifactStore, Manifest
    from interpretops.models import HookedModel
    from interpretops.sae import Dictionary

GRAPH = "circuit.json"
ATTRIBUTION_GRAPH = "attribution_graph.json"
SCORES = "attribution.safetensors"
FORM = "contrast"
FORM_OF_IMPORTS = "attribution_graph"
"""What `form` in the summary of a circuit says: found by a search here, or read from a file."""
_CURVE_POINTS = 12
_NO_EFFECT = 1e-6  # log-odds: what rounding alone can make of twins that do not differ


class SearchSpec(BaseModel):
    """How a circuit is searched.

    Attributes:
        method: How heads and MLPs are chosen: `eap_ig` ranks them by attribution and keeps the
            strongest that together keep a share of the effect; `acdc` walks from the output to the
            input and keeps those that exact patching finds to matter, which takes a forward for
            every head and MLP.
        keep: Share of the effect that the circuit must keep when everything else is corrupted
            (`eap_ig`).
        threshold: Change of the effect, as a share of it, above which a unit is kept (`acdc`).
        ig_steps: Points along the path from the harmless to the risky embeddings.
        pairs: How many pairs to attribute on, at most.
        held_out: How many further pairs faithfulness is measured on, at most.
        measured_components: How many heads and MLPs get an exact CCS, at most.
        measured_features: How many features per dictionary get an exact CCS.
        prune_groups: Groups of four units, weakest first, that are tried for dropping (`eap_ig`).
        minimality_units: Units of the final circuit that are tested one by one.
        resamples: Resamples of the pairs, for stability.
        batch_size: Pairs per forward.
        seed: Draws pairs and resamples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["eap_ig", "acdc"] = "eap_ig"
    keep: float = Field(default=0.8, gt=0, lt=1)
    threshold: float = Field(default=0.01, gt=0)
    ig_steps: int = Field(default=5, ge=1, le=100)
    pairs: int = Field(default=32, ge=2)
    held_out: int = Field(default=16, ge=2)
    measured_components: int = Field(default=24, ge=1)
    measured_features: int = Field(default=8, ge=0)
    prune_groups: int = Field(default=12, ge=0)
    minimality_units: int = Field(default=10, ge=1)
    resamples: int = Field(default=24, ge=2)
    batch_size: int = Field(default=16, ge=1)
    seed: int = 0


class Circuit(Handle):
    """A circuit that a search found, in the store.

    Attributes:
        graph: Its units, edges and figures.

    Raises:
        InterpretOpsError: When it is an imported graph.
    """

    kind = ArtifactKind.CIRCUIT

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        super().__init__(manifest, folder)
        if not (folder / GRAPH).is_file():
            raise InterpretOpsError(
                f"{manifest.id} is a graph that was imported; nothing in it was measured here",
                fix="use a circuit of `mechctl search`",
            )
        self.graph = CircuitGraph.model_validate_json((folder / GRAPH).read_bytes())

    def features(self, layer: int) -> list[int]:
        """Features of the circuit at the end of a layer, strongest first."""
        units = [Unit.parse(scored.unit) for scored in self.graph.units]
        return [unit.index for unit in units if unit.kind == "feature" and unit.layer == layer]


def search(
    model: HookedModel,
    task: ContrastTask,
    spec: SearchSpec,
    *,
    dictionary: Dictionary | None = None,
    redacted: Sequence[str] | None = None,
    store: ArtifactStore,
    monitor: Monitor = SILENT,
) -> Circuit:
    """Find the circuit behind a behaviour, and measure how well it explains it.

    Heads and MLPs are the components whose outputs add up to the residual stream: the circuit's
    faithfulness, completeness and minimality are theirs. SAE features are readings of that stream:
    they are attributed and measured beside the components, and what the circuit's features carry
    together is stated by layer, and so is what the dictionary leaves out of the stream: its error.

    A search that was stopped or killed goes on where it was when it is called again, and ends with
    the circuit of an uninterrupted one.

    Args:
        model: The model.
        task: The contrast; its prompts without a twin are compared with harmless ones of equal length.
        spec: How to search.
        dictionary: Dictionaries whose features are to be scored.
        redacted: Kinds of personal information that were looked for in the task's prompts, which the
            manifest holds; None when none were.
        store: Where the circuit is kept.
        monitor: Receives progress.

    Raises:
        InterpretOpsError: When too few pairs are aligned, or the behaviour does not differ between
            risky and harmless prompts.
        Cancelled: When the monitor stops the work.
    """
    task, borrowed = with_borrowed(model, task, seed=spec.seed)
    key = _Key(spec=spec, task=task, borrowed=borrowed)
    parents = [] if dictionary is None else [dictionary.id]
    found = store.find(ArtifactKind.CIRCUIT, key, model=model.ref, parents=parents)
    if found is not None:
        return Circuit.open(store, found.id)
    kept, dropped = aligned(model, task)
    if len(kept) < 8:
        raise InterpretOpsError(
            f"only {len(kept)} of {len(task.pairs)} pairs have twins of equal length in tokens",
            fix="give at least 8 such pairs; word the twin so that it has as many tokens",
        )
    order = np.random.default_rng(spec.seed).permutation(len(kept))
    n_held = min(spec.held_out, len(kept) // 3)
    found_on = [kept[i] for i in order[n_held : n_held + spec.pairs]]
    held_out = [kept[i] for i in order[:n_held]]
    saes = {
        site.layer or 0: sae.to(model.device)
        for site, sae in ({} if dictionary is None else dictionary.saes).items()
        if site.name == "resid_post"
    }
    with store.draft(
        ArtifactKind.CIRCUIT, key, model=model.ref, parents=parents, seeds=[spec.seed]
    ) as draft:
        batches, held = (
            Batches(model, task, pairs, saes, spec.batch_size, monitor, Journal(draft, name))
            for name, pairs in (("found_on", found_on), ("held_out", held_out))
        )
        effect = _require_effect(batches, held)
        scores = batches.attribute(spec.ig_steps)
        draft.write_tensors(SCORES, {str(u): s for u, s in scores.items() if u.is_component})
        graph = _measure(model, task, spec, batches, held, effect, scores, dropped, monitor)
        graph = graph.model_copy(update={"borrowed": borrowed})
        draft.write_json(GRAPH, graph)
        draft.write_json(ATTRIBUTION_GRAPH, attribution_graph(graph, model.ref, task))
        manifest = draft.commit(
            {
                "form": FORM,
                "risk_class": task.risk_class,
                "units": len(graph.units),
                "faithfulness": graph.faithfulness.value,
                "stability": graph.stability.value,
                "redacted": None if redacted is None else list(redacted),
            }
        )
    return Circuit.open(store, manifest.id)


class _Key(BaseModel):
    """Everything besides model and dictionary that determines the circuit."""

    spec: SearchSpec
    task: ContrastTask
    borrowed: Borrowed | None


def _require_effect(batches: Batches, held: Batches) -> Measured:
    """The mean effect, after checking before any search that shares of it will have a value."""
    effect = mean(batches.effect.tolist())
    if abs(effect.value) < _NO_EFFECT or effect.low * effect.high <= 0:
        raise InterpretOpsError(
            f"the behaviour does not differ reliably between risky prompts and twins (mean "
            f"{effect.value:.3g}, 95 % interval {effect.low:.3g} to {effect.high:.3g})",
            fix="give more pairs, or twins that differ from the risky prompts only in the risk",
        )
    on_held = float(held.effect.mean())
    if abs(on_held) < _NO_EFFECT:
        raise InterpretOpsError(
            f"risky prompts and twins do not differ on the {len(held.effect)} held-out pairs (mean "
            f"{on_held:.3g}), so the circuit's share of the difference has no value there",
            fix="give more pairs, or raise held_out",
        )
    return effect


def _measure(
    model: HookedModel,
    task: ContrastTask,
    spec: SearchSpec,
    batches: Batches,
    held: Batches,
    effect: Measured,
    scores: dict[Unit, torch.Tensor],
    dropped: int,
    monitor: Monitor,
) -> CircuitGraph:
    components = batches.components
    circuit = _circuit(batches, scores, spec, monitor)
    verdicts = needed(batches, circuit, spec.minimality_units, monitor)
    features = _strongest_features(scores, spec)
    errors = [unit for unit in scores if unit.kind == "error"]
    measured = [*circuit[: spec.measured_components], *features, *errors]
    total = float(batches.effect.mean())
    curve = _faithfulness_curve(held, circuit, scores, total, monitor)
    units = []
    for i, unit in enumerate(measured):
        estimate = float(scores[unit].mean()) / total
        units.append(ScoredUnit(unit=str(unit), attribution=estimate, ccs=batches.lost([unit])))
        monitor.update("measuring each unit", i + 1, len(measured))
    units.sort(key=lambda u: (not Unit.parse(u.unit).is_component, -abs(_ccs(u))))
    matrix = np.stack([scores[unit].numpy() for unit in components], axis=1).astype(np.float64)
    size = len(circuit)
    return CircuitGraph(
        risk_class=task.risk_class,
        behaviour=task.behaviour.words,
        n_layers=model.n_layers,
        effect=effect,
        units=(*units, *_unmeasured(circuit[spec.measured_components :], scores, total)),
        edges=batches.edges(measured),
        faithfulness=held.kept(circuit),
        faithfulness_curve=curve,
        completeness=held.lost(circuit),
        minimality=mean([float(n) for n in verdicts]),
        stability=bootstrap_stability(matrix, size, resamples=spec.resamples, seed=spec.seed),
        split_half=split_half_stability(matrix, size, splits=spec.resamples, seed=spec.seed),
        feature_effect={
            str(layer): held.lost([u for u in features if u.layer == layer])
            for layer in sorted({unit.layer for unit in features})
        },
        calibration=Calibration(
            spearman=spearman([u.attribution for u in units], [_ccs(u) for u in units]),
            n=len(units),
        ),
        pairs=len(batches.effect),
        dropped=dropped,
        components=len(components),
    )


def _faithfulness_curve(
    held: Batches,
    circuit: list[Unit],
    scores: dict[Unit, torch.Tensor],
    total: float,
    monitor: Monitor,
) -> tuple[CurvePoint, ...]:
    """What the strongest units of the circuit keep by themselves, from one unit to all of them."""
    sizes = np.unique(np.geomspace(1, len(circuit), _CURVE_POINTS).round().astype(int)).tolist()
    points = []
    for i, size in enumerate(sizes):
        weakest = abs(float(scores[circuit[size - 1]].mean()) / total)
        points.append(CurvePoint(units=size, weakest=weakest, kept=held.kept(circuit[:size])))
        monitor.update("measuring smaller circuits", i + 1, len(sizes))
    return tuple(points)


def _circuit(
    batches: Batches, scores: dict[Unit, torch.Tensor], spec: SearchSpec, monitor: Monitor
) -> list[Unit]:
    """Heads and MLPs of the circuit, strongest by attribution first."""
    if spec.method == "acdc":
        return by_strength(acdc(batches, spec.threshold, monitor), scores)
    ranked = by_strength(batches.components, scores)
    return by_attribution(batches, ranked, spec.keep, spec.prune_groups, monitor)


def _strongest_features(scores: dict[Unit, torch.Tensor], spec: SearchSpec) -> list[Unit]:
    """The features of each dictionary with the largest attributed effect."""
    features = [unit for unit in scores if unit.kind == "feature"]
    chosen: list[Unit] = []
    for layer in sorted({unit.layer for unit in features}):
        at_layer = [unit for unit in features if unit.layer == layer]
        chosen += by_strength(at_layer, scores)[: spec.measured_features]
    return chosen


def _unmeasured(
    rest: Sequence[Unit], scores: dict[Unit, torch.Tensor], total: float
) -> list[ScoredUnit]:
    """Weaker members of the circuit, attributed but not measured one by one."""
    return [
        ScoredUnit(unit=str(unit), attribution=float(scores[unit].mean()) / total, ccs=None)
        for unit in rest
    ]


def _ccs(scored: ScoredUnit) -> float:
    return 0.0 if scored.ccs is None else scored.ccs.value


def load_scores(store: ArtifactStore, ref: str) -> dict[str, torch.Tensor]:
    """Attribution of every head and MLP of a circuit's model, `[pairs]` each, by unit name."""
    return load_file(store.payload(ref) / SCORES)
