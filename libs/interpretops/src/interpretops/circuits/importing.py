"""Attribution graphs of circuit-tracer and Neuronpedia as circuit artifacts, to be read and not used.

The file is kept as it came, byte for byte. Nothing in it was measured here: it has no CCS, no
faithfulness and no lineage, and no policy can be fitted to it. Fields and meanings are those of
`circuit_tracer/frontend/graph_models.py` of github.com/safety-research/circuit-tracer (MIT) and of
Neuronpedia's `graph-schema.json`.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interpretops.artifacts import ArtifactKind
from interpretops.circuits.search import ATTRIBUTION_GRAPH, FORM_OF_IMPORTS
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from interpretops.artifacts import ArtifactStore, Manifest
    from interpretops.prompts import Redactor

MOST_NODES = 100_000
MOST_LINKS = 2_000_000
_PROMPT_SHOWN = 300

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Metadata(_Read):
    slug: str = ""
    scan: str | list[str]
    prompt_tokens: list[str]
    prompt: str = ""
    info: dict[str, Any] = Field(default_factory=dict)


class _Node(_Read):
    node_id: str = Field(min_length=1)
    layer: str | int
    ctx_idx: int = Field(ge=0)
    feature_type: str
    influence: _Finite | None = None
    activation: _Finite | None = None


class _Link(_Read):
    source: str
    target: str
    weight: _Finite


class _File(_Read):
    metadata: _Metadata
    nodes: Annotated[list[_Node], Field(min_length=1, max_length=MOST_NODES)]
    links: Annotated[list[_Link], Field(max_length=MOST_LINKS)]


class ImportSpec(BaseModel):
    """What an import is determined by.

    Attributes:
        source_sha256: Of the file as it came.
        schema_name: What it was read as.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source_sha256: str
    schema_name: str = "attribution graph"


def import_graph(
    content: bytes, *, store: ArtifactStore, redactor: Redactor | None = None
) -> Manifest:
    """Keep an attribution graph as a circuit artifact; the same file gives the same artifact.

    Args:
        content: The JSON file.
        store: Where it is kept.
        redactor: What looks for personal information in its prompt, where the settings ask for it. A
            file that holds some is refused, for it cannot be scrubbed and stay what it is.

    Raises:
        InterpretOpsError: When it is no attribution graph, with the first place that is wrong.
    """
    file = _parse(content)
    ids = {node.node_id for node in file.nodes}
    if len(ids) < len(file.nodes):
        twice = _first_twice([node.node_id for node in file.nodes])
        raise InterpretOpsError(
            f"the graph names the node {twice!r} twice", fix="give every node an id of its own"
        )
    loose = [link for link in file.links if link.source not in ids or link.target not in ids]
    if len(loose) == len(file.links) and file.links:
        raise InterpretOpsError(
            "no link of the graph joins two of its nodes",
            fix="write links with the node_id of their source and target",
        )
    if redactor is not None:
        counts = redactor.scrub(file.metadata.prompt)[1]
        if counts:
            kinds = ", ".join(sorted(str(kind) for kind in counts))
            raise InterpretOpsError(
                f"the graph's prompt holds personal information ({kinds})",
                fix="take it out of the file's prompt and prompt_tokens, "
                "or turn compliance.pii_redaction off",
            )
    spec = ImportSpec(source_sha256=hashlib.sha256(content).hexdigest())
    found = store.find(ArtifactKind.CIRCUIT, spec)
    if found is not None:
        return found
    scan = file.metadata.scan
    generator = file.metadata.info.get("generator")
    with store.draft(ArtifactKind.CIRCUIT, spec) as draft:
        draft.write_bytes(ATTRIBUTION_GRAPH, content)
        return draft.commit(
            {
                "form": FORM_OF_IMPORTS,
                "title": file.metadata.slug[:_PROMPT_SHOWN],
                "scan": (scan if isinstance(scan, str) else ", ".join(scan))[:_PROMPT_SHOWN],
                "prompt": file.metadata.prompt[:_PROMPT_SHOWN],
                "nodes": len(file.nodes),
                "links": len(file.links) - len(loose),
                "loose_links": len(loose),
                "tokens": len(file.metadata.prompt_tokens),
                "generator": str(generator.get("name", ""))[:_PROMPT_SHOWN]
                if isinstance(generator, dict)
                else "",
            }
        )


def _parse(content: bytes) -> _File:
    try:
        return _File.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
        raise InterpretOpsError(
            f"this is no attribution graph: {place.lstrip('.') or 'the whole'}: {first['msg']}",
            fix="give a graph file of circuit-tracer or Neuronpedia (metadata, nodes, links)",
        ) from None
    except (ValueError, RecursionError):
        raise InterpretOpsError(
            "this is no JSON", fix="give a graph file of circuit-tracer or Neuronpedia"
        ) from None


def _first_twice(names: list[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""
