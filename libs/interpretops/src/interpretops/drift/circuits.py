"""Two circuits of one behaviour compared: across versions of a model, seeds, or sets of prompts.

Which units both have is a matter of degree where prompts are few, so the overlap of the two circuits
stands beside each one's own: how much circuits found on resamples of its pairs overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file

from interpretops.circuits.graph import Measured, ScoredUnit, Unit
from interpretops.circuits.search import SCORES
from interpretops.circuits.statistics import RESAMPLES, jaccard, spearman, top_units
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interpretops.circuits import Circuit
    from interpretops.circuits.statistics import Array

_OVERLAPS = 200
_FEWEST = 5  # units of which a rank correlation gets an interval


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlacedUnit(_Part):
    """What a circuit says of a unit.

    Attributes:
        attribution: Estimated share of the effect.
        ccs: Causal Contribution Score, where it was measured.
        rank: Place among the circuit's measured units of its sort (heads and MLPs, or features and
            errors) by the size of the CCS, from 1; None where it was not measured.
    """

    attribution: float
    ccs: Measured | None
    rank: int | None


class ComparedUnit(_Part):
    """A unit of either circuit. What is `gained` is in the other circuit and not in the base."""

    unit: str
    status: Literal["shared", "gained", "lost"]
    base: PlacedUnit | None
    other: PlacedUnit | None


class CircuitComparison(_Part):
    """How a circuit differs from another one of the same behaviour.

    Attributes:
        base: Id of the circuit that is compared with.
        other: Id of the one that is compared.
        risk_class: The behaviour's name.
        same_model: Whether both were found in one model, weight for weight.
        units: Heads and MLPs of either circuit, then features and errors where both have the same
            dictionary; in forward order.
        jaccard: Shared heads and MLPs over all heads and MLPs of either circuit.
        weighted_jaccard: The same with each weighted by the size of its attribution: the sum of the
            smaller ones over the sum of the larger ones. A unit that changed its sign shares nothing.
        resampled: Mean overlap between circuits of the same sizes that attribution finds on resamples
            of the two sets of pairs, with what 95 % of these overlaps lie between; `n` resamples of
            each. None where a circuit keeps no attribution by pair.
        base_stability: The same among resamples of the base alone: how much overlap chance allows.
        other_stability: The same for the other one.
        ccs_spearman: Rank correlation of the CCS over heads and MLPs that both measured; the interval
            is over resamples of these units. None where both measured fewer than five.
        attribution_spearman: Mean rank correlation of attribution, over all heads and MLPs of the
            model, between resamples of the two sets of pairs, with what 95 % of these correlations lie
            between. Resamples of one circuit do not agree wholly either. None where `resampled` is.
        notes: What to know before drawing conclusions.
    """

    base: str
    other: str
    risk_class: str
    same_model: bool
    units: tuple[ComparedUnit, ...]
    jaccard: float
    weighted_jaccard: float
    resampled: Measured | None
    base_stability: Measured
    other_stability: Measured
    ccs_spearman: Measured | None
    attribution_spearman: Measured | None
    notes: tuple[str, ...]

    def named(self, status: Literal["shared", "gained", "lost"]) -> list[str]:
        """Units of one status, in forward order."""
        return [unit.unit for unit in self.units if unit.status == status]


def compare_circuits(base: Circuit, other: Circuit, *, seed: int = 0) -> CircuitComparison:
    """Compare two circuits of one behaviour.

    Args:
        base: What is compared with.
        other: What is compared.
        seed: Draws resamples.

    Raises:
        InterpretOpsError: When the comparison would mean nothing: they are of different behaviours, or
            of models whose layers and heads do not correspond.
    """
    _require_comparable(base, other)
    notes = _notes(base, other)
    same_features = _dictionary(base) is not None and _dictionary(base) == _dictionary(other)
    sides = [
        {u.unit: u for u in circuit.graph.units if same_features or _is_component(u.unit)}
        for circuit in (base, other)
    ]
    placed = [_placed(side) for side in sides]
    units = []
    for name in sorted(placed[0].keys() | placed[1].keys(), key=Unit.parse):
        a, b = placed[0].get(name), placed[1].get(name)
        status: Literal["shared", "gained", "lost"] = (
            "gained" if a is None else "lost" if b is None else "shared"
        )
        units.append(ComparedUnit(unit=name, status=status, base=a, other=b))
    components = [unit for unit in units if _is_component(unit.unit)]
    names = [frozenset(u.unit for u in components if getattr(u, s)) for s in ("base", "other")]
    resampled, attribution = _over_resamples(base, other, [len(n) for n in names], seed)
    return CircuitComparison(
        base=base.id,
        other=other.id,
        risk_class=base.graph.risk_class,
        same_model=base.manifest.model == other.manifest.model,
        units=tuple(units),
        jaccard=len(names[0] & names[1]) / len(names[0] | names[1]),
        weighted_jaccard=_weighted(components),
        resampled=resampled,
        base_stability=base.graph.stability,
        other_stability=other.graph.stability,
        ccs_spearman=_ccs_correlation(components, seed),
        attribution_spearman=attribution,
        notes=tuple(notes),
    )


def _require_comparable(base: Circuit, other: Circuit) -> None:
    a, b = base.graph, other.graph
    if a.risk_class != b.risk_class:
        raise InterpretOpsError(
            f"{base.id} is the circuit of {a.risk_class} and {other.id} of {b.risk_class}",
            fix="compare circuits of one behaviour",
        )
    if a.behaviour != b.behaviour:
        raise InterpretOpsError(
            f"{base.id} and {other.id} read the behaviour differently ({a.behaviour}; {b.behaviour})",
            fix="search both with the same kind of prompts",
        )
    if (a.n_layers, a.components) != (b.n_layers, b.components):
        raise InterpretOpsError(
            f"the models of {base.id} and {other.id} have {a.n_layers} and {b.n_layers} layers, "
            f"{a.components} and {b.components} heads and MLPs, which do not correspond",
            fix="compare circuits of versions of one model",
        )


def _notes(base: Circuit, other: Circuit) -> list[str]:
    notes = []
    if base.id == other.id:
        notes.append("This is one and the same circuit")
    first, second = _dictionary(base), _dictionary(other)
    if first != second or first is None:
        notes.append(
            "Features are left out: feature 12 of one dictionary is another one's feature by number "
            "alone"
            if first and second
            else "Features are left out: not both circuits were searched with a dictionary"
        )
    spec, theirs = base.manifest.spec.get("spec"), other.manifest.spec.get("spec")
    if isinstance(spec, dict) and isinstance(theirs, dict):
        differing = sorted(k for k in spec.keys() | theirs.keys() if spec.get(k) != theirs.get(k))
        differing = [k for k in differing if k not in ("seed", "batch_size")]
        if differing:
            said = ", ".join(f"{k} {spec.get(k)} and {theirs.get(k)}" for k in differing)
            notes.append(f"They were searched differently ({said}), which changes circuits too")
    if any(circuit.graph.borrowed is not None for circuit in (base, other)):
        notes.append("Harmless prompts were borrowed, so topics differ within pairs")
    return notes


def _dictionary(circuit: Circuit) -> str | None:
    return next((p for p in circuit.manifest.parents if p.startswith("sae_")), None)


def _is_component(name: str) -> bool:
    return Unit.parse(name).is_component


def _placed(units: Mapping[str, ScoredUnit]) -> dict[str, PlacedUnit]:
    ranks: dict[str, int] = {}
    for components in (True, False):
        measured = [
            (-abs(u.ccs.value), name)
            for name, u in units.items()
            if u.ccs is not None and _is_component(name) is components
        ]
        ranks |= {name: i + 1 for i, (_, name) in enumerate(sorted(measured))}
    return {
        name: PlacedUnit(attribution=u.attribution, ccs=u.ccs, rank=ranks.get(name))
        for name, u in units.items()
    }


def _weighted(units: Sequence[ComparedUnit]) -> float:
    smaller = larger = 0.0
    for unit in units:
        a = 0.0 if unit.base is None else unit.base.attribution
        b = 0.0 if unit.other is None else unit.other.attribution
        if a * b < 0:
            larger += abs(a) + abs(b)
        else:
            smaller += min(abs(a), abs(b))
            larger += max(abs(a), abs(b))
    return smaller / larger if larger else 0.0


def _ccs_correlation(units: Sequence[ComparedUnit], seed: int) -> Measured | None:
    pairs = [
        (u.base.ccs.value, u.other.ccs.value)
        for u in units
        if u.base is not None and u.other is not None and u.base.ccs and u.other.ccs
    ]
    if len(pairs) < _FEWEST:
        return None
    scores = np.asarray(pairs)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(pairs), (RESAMPLES, len(pairs)))
    drawn = [spearman(scores[p, 0].tolist(), scores[p, 1].tolist()) for p in picks]
    return _interval(spearman(scores[:, 0].tolist(), scores[:, 1].tolist()), drawn, len(pairs))


def _over_resamples(
    base: Circuit, other: Circuit, sizes: Sequence[int], seed: int
) -> tuple[Measured | None, Measured | None]:
    """Overlap and rank correlation between what attribution finds on resamples of the pairs."""
    scores = [_scores(circuit) for circuit in (base, other)]
    if scores[0] is None or scores[1] is None:
        return None, None
    rng = np.random.default_rng(seed)
    overlaps, correlations = [], []
    for _ in range(_OVERLAPS):
        drawn = [s[rng.integers(0, len(s), len(s))] for s in scores if s is not None]
        found = [top_units(s, size) for s, size in zip(drawn, sizes, strict=True)]
        overlaps.append(jaccard(found[0], found[1]))
        correlations.append(spearman(drawn[0].mean(0).tolist(), drawn[1].mean(0).tolist()))
    return (
        _interval(float(np.mean(overlaps)), overlaps, _OVERLAPS),
        _interval(float(np.mean(correlations)), correlations, _OVERLAPS),
    )


def _scores(circuit: Circuit) -> Array | None:
    """Attribution `[pairs, units]` of every head and MLP in forward order, as shares of the effect."""
    path = circuit.folder / SCORES
    if not path.is_file():
        return None
    found = load_file(path)
    ordered = sorted(found, key=Unit.parse)
    stacked = np.stack([found[name] for name in ordered], axis=1).astype(np.float64)
    return stacked / circuit.graph.effect.value


def _interval(value: float, drawn: Sequence[float], n: int) -> Measured:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Measured(value=value, low=float(low), high=float(high), n=n)
