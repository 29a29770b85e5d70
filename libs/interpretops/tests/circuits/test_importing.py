"""Graph files of other tools: kept as they are, refused where they are wrong, used for nothing."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from interpretops.circuits import Circuit
from interpretops.circuits.importing import import_graph
from interpretops.circuits.search import ATTRIBUTION_GRAPH
from interpretops.errors import InterpretOpsError
from interpretops.prompts import Redactor

if TYPE_CHECKING:
    from interpretops.artifacts import ArtifactStore


def node(name: str, **fields: Any) -> dict[str, Any]:
    """A node as circuit-tracer writes it."""
    return {
        "node_id": name,
        "feature": 12,
        "layer": "0",
        "ctx_idx": 0,
        "feature_type": "cross layer transcoder",
        "jsNodeId": name,
        "clerp": "",
        "influence": 0.4,
        "activation": 3.5,
        **fields,
    }


def graph(**changes: Any) -> bytes:
    """A small graph file."""
    content = {
        "metadata": {
            "slug": "dallas",
            "scan": "gemma-2-2b",
            "transcoder_list": [],
            "prompt_tokens": ["The", " capital"],
            "prompt": "The capital",
            "info": {"generator": {"name": "circuit-tracer"}},
        },
        "qParams": {},
        "nodes": [node("E_1_0", layer="E", feature_type="embedding"), node("0_12_1", ctx_idx=1)],
        "links": [
            {"source": "E_1_0", "target": "0_12_1", "weight": 0.5},
            {"source": "gone", "target": "0_12_1", "weight": 0.1},
        ],
        **changes,
    }
    return json.dumps(content, indent=1).encode()


def test_a_graph_is_kept_byte_for_byte_and_once(store: ArtifactStore) -> None:
    made = import_graph(graph(), store=store)
    assert (store.payload(made.id) / ATTRIBUTION_GRAPH).read_bytes() == graph()
    assert made.spec["source_sha256"] == hashlib.sha256(graph()).hexdigest()
    assert made.model is None
    assert made.parents == ()
    assert made.summary == {
        "form": "attribution_graph",
        "title": "dallas",
        "scan": "gemma-2-2b",
        "prompt": "The capital",
        "nodes": 2,
        "links": 1,
        "loose_links": 1,
        "tokens": 2,
        "generator": "circuit-tracer",
    }
    assert import_graph(graph(), store=store).id == made.id


def test_nothing_of_it_can_be_steered_by(store: ArtifactStore) -> None:
    made = import_graph(graph(), store=store)
    with pytest.raises(InterpretOpsError, match="imported; nothing in it was measured"):
        Circuit.open(store, made.id)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "no JSON"),
        (b"[]", "no attribution graph"),
        (graph(nodes=[]), "nodes"),
        (graph(nodes=[node("a", layer=None)]), r"nodes\[0\].layer"),
        (graph(nodes=[node("a"), node("a")]), "'a' twice"),
        (graph(links=[{"source": "x", "target": "y", "weight": 1}]), "no link"),
        (graph(links=[{"source": "E_1_0", "target": "0_12_1", "weight": float("nan")}]), "weight"),
    ],
)
def test_what_is_wrong_is_one_line(store: ArtifactStore, content: bytes, complaint: str) -> None:
    with pytest.raises(InterpretOpsError, match=complaint):
        import_graph(content, store=store)
    assert store.ids() == []


def test_personal_information_is_not_taken_in_where_it_would_be_scrubbed(
    store: ArtifactStore,
) -> None:
    metadata = {"scan": "m", "prompt": "Write to jo@example.org", "prompt_tokens": []}
    with pytest.raises(InterpretOpsError, match="personal information"):
        import_graph(graph(metadata=metadata), store=store, redactor=Redactor())
    assert import_graph(graph(metadata=metadata), store=store).id
