"""Circuits as the attribution graphs that circuit-tracer's frontend and Neuronpedia read.

Field names follow `circuit_tracer/frontend/graph_models.py` (`Metadata`, `QParams`, `Node`, `Model`) of
github.com/safety-research/circuit-tracer (MIT). That schema places nodes by layer and context position;
our units are summed over positions, so all of them stand at the last position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interpretops.circuits.graph import CircuitGraph, Unit

if TYPE_CHECKING:
    from interpretops.artifacts import ModelRef
    from interpretops.circuits.task import ContrastTask

_FEATURE_TYPES = {
    "head": "attention head",
    "mlp": "mlp",
    "feature": "sae feature",
    "error": "mlp reconstruction error",  # the schema's one kind for what a dictionary leaves out
}


def attribution_graph(graph: CircuitGraph, model: ModelRef, task: ContrastTask) -> dict[str, Any]:
    """The circuit in the attribution-graph schema, as plain JSON data."""
    strengths = {u.unit: u.ccs.value for u in graph.units if u.ccs is not None}
    cumulative = _cumulative(strengths)
    nodes = [_node(name, strength, cumulative[name]) for name, strength in strengths.items()]
    nodes.append(_output(graph))
    ids = {name: node["node_id"] for name, node in zip([*strengths, "output"], nodes, strict=True)}
    links = [
        {"source": ids[edge.source], "target": ids[edge.target], "weight": edge.score}
        for edge in graph.edges
        if edge.source in ids and edge.target in ids
    ]
    example = task.pairs[0].risky if task.pairs else ""
    return {
        "metadata": {
            "slug": f"{graph.risk_class}-circuit",
            "scan": model.name,
            "transcoder_list": [],
            "prompt_tokens": [task.risk_class],
            "prompt": example,
            "node_threshold": None,
            "schema_version": 1,
        },
        "qParams": {
            "pinnedIds": [ids["output"]],
            "supernodes": [],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": links,
    }


def _cumulative(strengths: dict[str, float]) -> dict[str, float]:
    """By unit, the share of all strength that it and the stronger units hold.

    It is what the schema calls influence: a frontend that prunes at 0.8 keeps the strongest units that
    together hold 80 %.
    """
    total = sum(map(abs, strengths.values())) or 1.0
    held, shares = 0.0, {}
    for name, strength in sorted(strengths.items(), key=lambda item: -abs(item[1])):
        held += abs(strength) / total
        shares[name] = min(held, 1.0)
    return shares


def _node(name: str, strength: float, influence: float) -> dict[str, Any]:
    unit = Unit.parse(name)
    layer = str(unit.layer)
    # Cantor pairing of layer and index, as circuit-tracer numbers features; errors are -1 there.
    number = (unit.layer + unit.index) * (unit.layer + unit.index + 1) // 2 + unit.index
    number = -1 if unit.kind == "error" else number
    return {
        "node_id": f"{layer}_{unit.kind}{unit.index}_0",
        "feature": number,
        "layer": layer,
        "ctx_idx": 0,
        "feature_type": _FEATURE_TYPES[unit.kind],
        "jsNodeId": f"{layer}_{unit.kind}{unit.index}-0",
        "clerp": name,
        "influence": influence,
        "activation": strength,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
    }


def _output(graph: CircuitGraph) -> dict[str, Any]:
    layer = str(graph.n_layers)
    return {
        "node_id": f"{layer}_output_0",
        "feature": -1,
        "layer": layer,
        "ctx_idx": 0,
        "feature_type": "logit",
        "jsNodeId": f"L_{layer}-0",
        "clerp": graph.behaviour,
        "influence": 0.0,
        "activation": graph.effect.value,
        "token_prob": 1.0,
        "is_target_logit": True,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
    }
