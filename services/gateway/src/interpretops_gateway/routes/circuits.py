"""`/circuits`: what was found and what came from elsewhere, compared, and what people write about it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from interpretops_platform import annotations
from interpretops_platform.artifacts import find
from interpretops_platform.database.models import Artifact, CircuitAnnotation
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from interpretops_protos.plain import to_plain
from interpretops_protos.v1 import circuit_service_pb2
from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.exceptions import HTTPException

from interpretops_gateway.bodies import Body, example, id_of, reference
from interpretops_gateway.contracts import ARTIFACT, STORABLE
from interpretops_gateway.documents import ArtifactDocument
from interpretops_gateway.edge import EdgeDep
from interpretops_gateway.etags import CHANGED, IfMatch, etag, revision_of
from interpretops_gateway.pages import Cursor, Limit, Page, read_page
from interpretops_gateway.routes.artifacts import ArtifactId, NamedArtifact, read_json_of
from interpretops_gateway.routing import needs, router

routes = router("circuits")

CIRCUIT_FILE = "circuit.json"
GRAPH_FILE = "attribution_graph.json"
IMPORTED = "attribution_graph"
_MOST_GROUPS = 500
_MOST_NODES = 5000
_IMPORT_SECONDS = 60.0

Form = Literal["contrast", "attribution_graph"]
NodeName = Annotated[str, Field(min_length=1, max_length=200, pattern=STORABLE)]
_GRAPH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "A graph file as circuit-tracer and Neuronpedia write it.",
                    "required": ["metadata", "nodes", "links"],
                    "properties": {
                        "metadata": {"type": "object"},
                        "qParams": {"type": "object"},
                        "nodes": {"type": "array", "items": {"type": "object"}},
                        "links": {"type": "array", "items": {"type": "object"}},
                    },
                }
            }
        },
    }
}


class CircuitDocument(BaseModel):
    """A circuit: its units, the edges among them, and how well they explain the behaviour."""

    circuit_id: str
    form: Form = Field(
        description="`contrast` for what a search found here; `attribution_graph` for a graph that "
        "was imported, in which nothing was measured here."
    )
    ccs_summary: dict[str, float] = Field(
        description="Causal Contribution Score by unit, such as `layer12.f47`: the share of the "
        "effect that is lost without it. Only units that were measured.",
        examples=[{"layer12.f47": 0.18, "layer9.attn.h4": 0.11}],
    )
    graph: dict[str, Any] = Field(
        description="The whole graph, with intervals (schema version 1); for an imported one the "
        "file as it came: `metadata`, `nodes` and `links`."
    )
    artifact: ArtifactDocument


class CircuitDictionary(BaseModel):
    """Where a circuit's features come from."""

    dictionary: str | None = Field(description="Null where the circuit has none.")
    sites: list[str] = Field(examples=[["resid_post.14", "resid_post.18"]])


class Measurement(BaseModel):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int = Field(description="Of what it was measured on.")


class PlacedUnit(BaseModel):
    """What a circuit says of a unit."""

    attribution: float = Field(description="Estimated share of the effect.")
    ccs: Measurement | None = Field(default=None, description="Null where it was not measured.")
    rank: int | None = Field(default=None, description="By the size of its CCS, from 1.")


class ComparedUnit(BaseModel):
    """A unit of either circuit."""

    unit: str = Field(examples=["layer9.attn.h4"])
    status: Literal["shared", "gained", "lost"]
    base: PlacedUnit | None = None
    other: PlacedUnit | None = None


class CircuitComparison(BaseModel):
    """How a circuit differs from another one of the same behaviour."""

    base: str
    other: str
    risk_class: str
    same_model: bool = Field(description="Whether both are of one model, weight for weight.")
    units: list[ComparedUnit] = Field(
        description="Heads and MLPs of either circuit, then features where both have the same "
        "dictionary; in forward order."
    )
    jaccard: float = Field(description="Shared heads and MLPs over all of either circuit.")
    weighted_jaccard: float = Field(description="The same, weighted by the size of attribution.")
    resampled: Measurement | None = Field(
        default=None,
        description="Mean overlap between circuits found on resamples of the two sets of pairs.",
    )
    base_stability: Measurement = Field(
        description="The same among resamples of the base alone: how much overlap chance allows."
    )
    other_stability: Measurement
    ccs_spearman: Measurement | None = Field(
        default=None, description="Rank correlation of the CCS over units that both measured."
    )
    attribution_spearman: Measurement | None = Field(
        default=None, description="Rank correlation of attribution over all heads and MLPs."
    )
    notes: list[str] = Field(default=[], description="To know before drawing conclusions.")


class Supernode(BaseModel):
    """Nodes that people read as one thing."""

    name: str = Field(min_length=1, max_length=200, pattern=STORABLE, examples=["say a city"])
    nodes: Annotated[list[NodeName], Field(min_length=1, max_length=_MOST_NODES)] = Field(
        description="Units by name, or the node_id of an imported graph.",
        examples=[["layer12.f47", "layer14.f3"]],
    )


class AnnotationBody(Body):
    """What is written about a circuit: all of it, in place of what was there."""

    model_config = example(
        {
            "supernodes": [{"name": "locks and keys", "nodes": ["layer12.f47", "layer12.f90"]}],
            "pinned": ["layer12.f47"],
        }
    )

    supernodes: Annotated[list[Supernode], Field(max_length=_MOST_GROUPS)] = Field(default=[])
    pinned: Annotated[list[NodeName], Field(max_length=_MOST_NODES)] = Field(
        default=[], description="Nodes that are always shown."
    )


class AnnotationDocument(BaseModel):
    """What people wrote about a circuit."""

    supernodes: list[Supernode]
    pinned: list[str]
    revision: int = Field(description="Grows with every change, from 0; it is the `ETag`.")
    author: str | None = Field(description="Who wrote it last; null where nobody did.")
    updated_at: datetime | None

    @classmethod
    def of(cls, row: CircuitAnnotation | None) -> "AnnotationDocument":
        """What callers see of a row, or of none."""
        if row is None:
            return cls(supernodes=[], pinned=[], revision=0, author=None, updated_at=None)
        return cls(
            supernodes=[Supernode.model_validate(group) for group in row.body["supernodes"]],
            pinned=row.body["pinned"],
            revision=row.revision,
            author=row.author,
            updated_at=row.updated_at,
        )


@routes.get("/circuits", dependencies=[needs(Scope.ARTIFACTS_READ)])
async def list_circuits(
    edge: EdgeDep,
    form: Annotated[Form | None, Query(description="Found here, or imported.")] = None,
    risk_class: Annotated[
        str | None, Query(max_length=200, pattern=STORABLE, description="Of this behaviour.")
    ] = None,
    model: Annotated[
        str | None, Query(max_length=512, pattern=STORABLE, description="Found in this model.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ArtifactDocument]:
    """List circuits, newest first."""
    query = select(Artifact).where(Artifact.kind == "circuit")
    imported = Artifact.manifest.contains({"summary": {"form": IMPORTED}})
    if form is not None:
        query = query.where(imported if form == IMPORTED else ~imported)
    if risk_class is not None:
        query = query.where(Artifact.manifest.contains({"summary": {"risk_class": risk_class}}))
    if model is not None:
        query = query.where(Artifact.manifest.contains({"model": {"name": model}}))
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        order = (Artifact.created_at, Artifact.id)
        return await read_page(
            session, query, order, ArtifactDocument.of, limit=limit, cursor=cursor
        )


@routes.get("/circuit/{artifact_id}", dependencies=[needs(Scope.ARTIFACTS_READ)])
async def read_circuit(edge: EdgeDep, artifact_id: NamedArtifact) -> CircuitDocument:
    """Look at a circuit: its graph, and the score of each unit."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        summary = (await find(session, artifact_id)).manifest.get("summary", {})
    imported = summary.get("form") == IMPORTED
    path = GRAPH_FILE if imported else CIRCUIT_FILE
    artifact, graph = await read_json_of(edge, artifact_id, "circuit", path)
    return CircuitDocument(
        circuit_id=artifact_id,
        form="attribution_graph" if imported else "contrast",
        ccs_summary={} if imported else ccs_summary(graph),
        graph=graph,
        artifact=ArtifactDocument.of(artifact),
    )


@routes.get("/circuits/compare", dependencies=[needs(Scope.ARTIFACTS_READ)])
async def compare_circuits(
    edge: EdgeDep,
    base: Annotated[str, Query(pattern=ARTIFACT, description="What is compared with.")],
    other: Annotated[str, Query(pattern=ARTIFACT, description="What is compared.")],
) -> CircuitComparison:
    """Say which units two circuits of one behaviour share, and how their scores agree.

    For circuits found in two versions of a model, with two seeds, or on two sets of prompts. A
    comparison that would mean nothing is refused. Both are named by id, or by a name.
    """
    request = circuit_service_pb2.CompareCircuitsRequest(
        base=reference(await id_of(edge, base, "circuit", field="base")),
        other=reference(await id_of(edge, other, "circuit", field="other")),
    )
    with edge.services.calling((("base.id", "base"), ("other.id", "other"))):
        answer = await edge.services.circuits.CompareCircuits(request)
    return CircuitComparison.model_validate(to_plain(answer.comparison))


@routes.post(
    "/circuits/import",
    status_code=201,
    dependencies=[needs(Scope.ARTIFACTS_WRITE)],
    openapi_extra=_GRAPH_BODY,
    responses={
        413: {"description": "The file is larger than this installation takes in."},
        415: {"description": "The body is no JSON."},
    },
)
async def import_graph(edge: EdgeDep, request: Request, response: Response) -> ArtifactDocument:
    """Keep an attribution graph of circuit-tracer or Neuronpedia as a circuit, to be read.

    The body is the file, which is kept byte for byte; the same file gives the same circuit. Nothing in
    it was measured here, so no policy is fitted to it. A file whose prompt holds personal information
    is refused where the installation scrubs prompts.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415)
    content = await request.body()
    with edge.services.calling(seconds=_IMPORT_SECONDS):
        answer = await edge.services.circuits.ImportGraph(
            circuit_service_pb2.ImportGraphRequest(content=content)
        )
    response.headers["location"] = f"/circuit/{answer.circuit.id}"
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        return ArtifactDocument.of(await find(session, answer.circuit.id))


@routes.get("/circuit/{artifact_id}/annotations", dependencies=[needs(Scope.ARTIFACTS_READ)])
async def read_annotations(
    edge: EdgeDep, artifact_id: ArtifactId, response: Response
) -> AnnotationDocument:
    """Read what people wrote about a circuit: groups of nodes, and what is pinned."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        found = AnnotationDocument.of(await annotations.read_annotation(session, artifact_id))
    response.headers["etag"] = etag(found.revision)
    return found


@routes.put(
    "/circuit/{artifact_id}/annotations",
    dependencies=[needs(Scope.ARTIFACTS_WRITE)],
    responses=CHANGED,
)
async def write_annotations(
    edge: EdgeDep,
    artifact_id: ArtifactId,
    body: AnnotationBody,
    response: Response,
    if_match: IfMatch = None,
) -> AnnotationDocument:
    """Write about a circuit, in place of what was there. It is in the audit log."""
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        row = await annotations.write_annotation(
            session,
            principal,
            artifact_id,
            body.model_dump(),
            expected_revision=revision_of(if_match),
        )
        written = AnnotationDocument.of(row)
    response.headers["etag"] = etag(written.revision)
    return written


@routes.get("/circuit/{artifact_id}/dictionary", dependencies=[needs(Scope.ARTIFACTS_READ)])
async def read_dictionary_of(edge: EdgeDep, artifact_id: ArtifactId) -> CircuitDictionary:
    """Say which dictionary a circuit's features are of, and at which sites it reads the model."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        artifact = await find(session, artifact_id)
        parents = list(artifact.manifest.get("parents", ()))
        found = [await find(session, parent) for parent in parents]
    dictionary = next((row for row in found if row.kind == "dictionary"), None)
    if dictionary is None:
        return CircuitDictionary(dictionary=None, sites=[])
    _, index = await read_json_of(edge, dictionary.id, "dictionary", "dictionary.json")
    return CircuitDictionary(dictionary=dictionary.id, sites=index["sites"])


def ccs_summary(graph: dict[str, Any]) -> dict[str, float]:
    """Causal Contribution Score by unit, strongest first, of those that were measured."""
    measured = {
        unit["unit"]: unit["ccs"]["value"] for unit in graph["units"] if unit["ccs"] is not None
    }
    return dict(sorted(measured.items(), key=lambda item: -item[1]))
