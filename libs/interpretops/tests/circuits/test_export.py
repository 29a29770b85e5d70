"""The exported attribution graph against the schema that circuit-tracer's frontend reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from interpretops.circuits import CircuitGraph, SearchSpec, search
from interpretops.circuits.export import attribution_graph
from interpretops.circuits.search import ATTRIBUTION_GRAPH

if TYPE_CHECKING:
    from collections.abc import Callable

    from interpretops.artifacts import ArtifactStore
    from interpretops.circuits import ContrastTask
    from interpretops.circuits.search import Circuit
    from interpretops.models import HookedModel

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_NUMBER = {"type": "number"}
_FLAG = {"type": "boolean"}
_TEXTS = {"type": "array", "items": _TEXT}


def _object(required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
    }


# Fields, types and defaults as circuit_tracer/frontend/graph_models.py declares them.
SCHEMA = _object(
    {
        "metadata": _object(
            {
                "slug": _TEXT,
                "scan": _TEXT,
                "transcoder_list": _TEXTS,
                "prompt_tokens": _TEXTS,
                "prompt": _TEXT,
            },
            {"node_threshold": {"type": ["number", "null"]}},
        ),
        "qParams": _object(
            {
                "pinnedIds": _TEXTS,
                "supernodes": {"type": "array", "items": _TEXTS},
                "linkType": _TEXT,
                "clickedId": _TEXT,
                "sg_pos": _TEXT,
            },
            {},
        ),
        "nodes": {
            "type": "array",
            "minItems": 1,
            "items": _object(
                {
                    "node_id": _TEXT,
                    "feature": _WHOLE,
                    "layer": _TEXT,
                    "ctx_idx": _WHOLE,
                    "feature_type": _TEXT,
                    "jsNodeId": _TEXT,
                },
                {
                    "token_prob": _NUMBER,
                    "is_target_logit": _FLAG,
                    "run_idx": _WHOLE,
                    "reverse_ctx_idx": _WHOLE,
                    "clerp": _TEXT,
                    "influence": {"type": ["number", "null"]},
                    "activation": {"type": ["number", "null"]},
                },
            ),
        },
        "links": {
            "type": "array",
            "items": _object({"source": _TEXT, "target": _TEXT, "weight": _NUMBER}, {}),
        },
    },
    {},
)


@pytest.fixture
def circuit(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore
) -> Circuit:
    """A circuit of a tiny model, of which only some units are measured."""
    spec = SearchSpec(
        keep=0.95, ig_steps=2, pairs=6, held_out=2, resamples=2, measured_components=3
    )
    return search(tiny, letters(9), spec, store=store)


@pytest.fixture
def exported(circuit: Circuit, store: ArtifactStore) -> Any:
    """The file in the artifact, read back."""
    return json.loads((store.payload(circuit.id) / ATTRIBUTION_GRAPH).read_text("utf-8"))


def test_the_export_is_valid(exported: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(exported, SCHEMA)
    del exported["nodes"][0]["jsNodeId"]
    with pytest.raises(jsonschema.ValidationError, match="jsNodeId"):
        jsonschema.validate(exported, SCHEMA)


def test_ids_are_unique_and_every_link_ends_at_a_node(exported: Any) -> None:
    for field in ("node_id", "jsNodeId"):
        ids = [node[field] for node in exported["nodes"]]
        assert len(ids) == len(set(ids))
    nodes = {node["node_id"] for node in exported["nodes"]}
    assert exported["links"]
    assert {link[end] for link in exported["links"] for end in ("source", "target")} <= nodes
    assert set(exported["qParams"]["pinnedIds"]) <= nodes


def test_nodes_are_the_measured_units_and_one_output(circuit: Circuit, exported: Any) -> None:
    measured = {u.unit: u.ccs.value for u in circuit.graph.units if u.ccs is not None}
    assert 0 < len(measured) < len(circuit.graph.units)
    outputs = [node for node in exported["nodes"] if node["is_target_logit"]]
    assert [node["clerp"] for node in outputs] == [circuit.graph.behaviour]
    shown = {
        node["clerp"]: node["activation"]
        for node in exported["nodes"]
        if not node["is_target_logit"]
    }
    assert shown == pytest.approx(measured)


def test_influence_is_the_share_that_a_node_and_all_stronger_ones_hold(exported: Any) -> None:
    nodes = [node for node in exported["nodes"] if not node["is_target_logit"]]
    strengths = [abs(node["activation"]) for node in nodes]
    for node in nodes:
        held = sum(s for s in strengths if s >= abs(node["activation"])) / sum(strengths)
        assert node["influence"] == pytest.approx(held)


def test_links_carry_the_edges(circuit: Circuit, exported: Any) -> None:
    names = {
        node["node_id"]: "output" if node["is_target_logit"] else node["clerp"]
        for node in exported["nodes"]
    }
    shown = {
        (names[link["source"]], names[link["target"]]): link["weight"] for link in exported["links"]
    }
    assert shown == pytest.approx({(e.source, e.target): e.score for e in circuit.graph.edges})


def test_features_and_components_of_one_layer_do_not_collide(
    circuit: Circuit, tiny: HookedModel, letters: Callable[..., ContrastTask]
) -> None:
    measured = next(unit for unit in circuit.graph.units if unit.ccs is not None)
    names = ["layer1.attn.h1", "layer1.f1", "layer1.mlp", "layer1.f0", "layer1.attn.h0"]
    names.append("layer1.error")
    units = tuple(measured.model_copy(update={"unit": name}) for name in names)
    graph = circuit.graph.model_copy(update={"units": units, "edges": ()})
    nodes = attribution_graph(graph, tiny.ref, letters(1))["nodes"]
    assert len({node["node_id"] for node in nodes}) == len(names) + 1


def test_the_graph_survives_its_own_json(circuit: Circuit) -> None:
    assert CircuitGraph.model_validate_json(circuit.graph.model_dump_json()) == circuit.graph
