"""Circuits compared: what is shared, by how much, and when that means nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from interpretops.circuits import SearchSpec, search
from interpretops.drift.circuits import compare_circuits
from interpretops.errors import InterpretOpsError

from ..circuits.conftest import dictionary_of, letters  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.artifacts import ArtifactStore
    from interpretops.circuits import Circuit, CircuitGraph, ContrastTask
    from interpretops.models import HookedModel

SPEC = SearchSpec(method="acdc", threshold=1e-6, ig_steps=2, pairs=6, held_out=2)


@pytest.fixture
def circuit(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    store: ArtifactStore,
) -> Circuit:
    """A circuit of a tiny model."""
    return search(tiny, letters(9), SPEC, store=store)


def changed(circuit: Circuit, graph: CircuitGraph) -> Circuit:
    """The circuit with another graph."""
    other = circuit.__class__(circuit.manifest, circuit.folder)
    other.graph = graph
    return other


def test_a_circuit_is_like_itself(circuit: Circuit) -> None:
    found = compare_circuits(circuit, circuit)
    assert {unit.status for unit in found.units} == {"shared"}
    assert (found.jaccard, found.weighted_jaccard, found.same_model) == (1.0, 1.0, True)
    assert found.ccs_spearman is not None
    assert found.ccs_spearman.value == pytest.approx(1.0)
    assert found.attribution_spearman is not None
    spearman = found.attribution_spearman
    assert spearman.low <= spearman.value <= spearman.high <= 1
    assert found.resampled is not None
    # Resamples differ from one another, of the same circuit too: that is the yardstick.
    assert found.resampled.value == pytest.approx(circuit.graph.stability.value, abs=0.15)
    assert any("one and the same" in note for note in found.notes)


def test_units_are_shared_gained_and_lost(circuit: Circuit) -> None:
    units = circuit.graph.units
    assert len(units) > 4
    fewer = changed(circuit, circuit.graph.model_copy(update={"units": units[1:]}))
    lost = compare_circuits(circuit, fewer)
    assert lost.named("lost") == [units[0].unit]
    assert lost.named("gained") == []
    assert lost.jaccard == pytest.approx((len(units) - 1) / len(units))
    sizes = [abs(unit.attribution) for unit in units]
    assert lost.weighted_jaccard == pytest.approx(sum(sizes[1:]) / sum(sizes))
    assert compare_circuits(fewer, circuit).named("gained") == [units[0].unit]


def test_a_unit_that_changed_its_sign_shares_no_weight(circuit: Circuit) -> None:
    first, *rest = circuit.graph.units
    turned = first.model_copy(update={"attribution": -first.attribution})
    other = changed(circuit, circuit.graph.model_copy(update={"units": (turned, *rest)}))
    found = compare_circuits(circuit, other)
    assert found.jaccard == 1.0
    total = sum(abs(unit.attribution) for unit in circuit.graph.units)
    share = abs(first.attribution)
    assert found.weighted_jaccard == pytest.approx((total - share) / (total + share))


def test_ranks_are_by_the_size_of_the_ccs(circuit: Circuit) -> None:
    found = compare_circuits(circuit, circuit)
    measured = [u.base for u in found.units if u.base is not None and u.base.ccs is not None]
    measured.sort(key=lambda placed: placed.rank or 0)
    sizes = [abs(placed.ccs.value) for placed in measured if placed.ccs is not None]
    assert sizes == sorted(sizes, reverse=True)
    assert [placed.rank for placed in measured] == list(range(1, len(measured) + 1))


def test_another_version_of_the_model_is_another_model(
    circuit: Circuit,
    make_tiny: Callable[..., HookedModel],
    letters: Callable[..., ContrastTask],
    store: ArtifactStore,
) -> None:
    other = search(make_tiny("llama", seed=3), letters(9), SPEC, store=store)
    found = compare_circuits(circuit, other)
    assert not found.same_model
    assert found.attribution_spearman is not None
    assert found.attribution_spearman.value < 0.9
    assert found.resampled is not None
    assert found.resampled.low <= found.resampled.value <= found.resampled.high


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"risk_class": "toxicity"}, "compare circuits of one behaviour"),
        ({"behaviour": "the weather"}, "read the behaviour differently"),
        ({"n_layers": 99}, "do not correspond"),
    ],
)
def test_what_means_nothing_is_refused(
    circuit: Circuit, changes: dict[str, object], complaint: str
) -> None:
    other = changed(circuit, circuit.graph.model_copy(update=changes))
    with pytest.raises(InterpretOpsError, match=complaint):
        compare_circuits(circuit, other)


def test_features_are_compared_by_one_dictionary_only(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    dictionary_of: Callable[..., object],
    store: ArtifactStore,
    circuit: Circuit,
) -> None:
    dictionary = dictionary_of(tiny)
    spec = SPEC.model_copy(update={"measured_features": 2})
    with_features = search(tiny, letters(9), spec, dictionary=dictionary, store=store)  # type: ignore[arg-type]
    alike = compare_circuits(with_features, with_features)
    assert any(".f" in unit.unit for unit in alike.units)
    apart = compare_circuits(circuit, with_features)
    assert not any(".f" in unit.unit for unit in apart.units)
    assert any("Features are left out" in note for note in apart.notes)
