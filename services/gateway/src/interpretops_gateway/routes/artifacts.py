"""`/artifacts`: what was made, from what, and its files."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query
from fastapi.responses import Response, StreamingResponse
from interpretops_platform import audit, names
from interpretops_platform.artifacts import find, lineage
from interpretops_platform.database.models import Artifact, ArtifactParent
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.objects.store import ObjectRef, ObjectStore
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from pydantic import BaseModel, Field
from sqlalchemy import select

from interpretops_gateway.bodies import id_of
from interpretops_gateway.contracts import ARTIFACT, ARTIFACT_ID
from interpretops_gateway.documents import (
    ArtifactDetails,
    ArtifactDocument,
    ArtifactFile,
    ArtifactKind,
)
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.pages import Cursor, Limit, Page, read_page
from interpretops_gateway.routing import needs, router

routes = router()

ArtifactId = Annotated[
    str,
    Path(
        pattern=ARTIFACT_ID,
        description="The artifact.",
        examples=["cx_01ARZ3NDEKTSV4RRFFQ69G5FAV"],
    ),
]


async def _by_id_or_name(
    edge: EdgeDep,
    artifact_id: Annotated[
        str,
        Path(
            pattern=ARTIFACT,
            description="The artifact: its id, or its name.",
            examples=["cx_01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        ),
    ],
) -> str:
    return await id_of(edge, artifact_id)


NamedArtifact = Annotated[str, Depends(_by_id_or_name)]
"""Id of the artifact in the path, which may name it.

Not where a file is downloaded or something written: what is at such an address must stay the same, for
copies are kept of it for a year and revisions are counted, and a name may be moved.
"""
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file. `ETag` and `Repr-Digest` are its SHA-256.",
        "content": {"application/octet-stream": _BYTES},
    },
    304: {"description": "The caller has it already (`If-None-Match`)."},
}
_PDF: dict[int | str, dict[str, Any]] = {
    200: {"description": "The report.", "content": {"application/pdf": _BYTES}},
    304: {"description": "The caller has it already (`If-None-Match`)."},
}
CARD_FILE = "risk_card.json"
SAMPLES_FILE = "samples.jsonl"
_WITH_SAMPLES = ("risk_card", (CARD_FILE, SAMPLES_FILE))


class Lineage(BaseModel):
    """All that an artifact was made from."""

    id: str
    artifacts: list[ArtifactDocument] = Field(
        description="Parents before children; the artifact itself is last."
    )


class RiskCardDocument(BaseModel):
    """What one evaluation found."""

    risk_card_id: str
    card: dict[str, Any] = Field(
        description="Every figure with its count and interval. `samples` is empty here: see "
        "`/risk-cards/{id}/samples`."
    )
    artifact: ArtifactDocument


@routes.get("/artifacts", dependencies=[needs(Scope.ARTIFACTS_READ)], tags=["artifacts"])
async def list_artifacts(
    edge: EdgeDep,
    kind: Annotated[list[ArtifactKind] | None, Query(description="Of these kinds.")] = None,
    parent: Annotated[
        str | None, Query(pattern=ARTIFACT_ID, description="Made directly from this one.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ArtifactDocument]:
    """List artifacts, newest first."""
    query = select(Artifact)
    if kind:
        query = query.where(Artifact.kind.in_(kind))
    if parent is not None:
        children = select(ArtifactParent.artifact_id).where(ArtifactParent.parent_id == parent)
        query = query.where(Artifact.id.in_(children))
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        order = (Artifact.created_at, Artifact.id)
        return await read_page(
            session, query, order, ArtifactDocument.of, limit=limit, cursor=cursor
        )


@routes.get(
    "/artifacts/{artifact_id}", dependencies=[needs(Scope.ARTIFACTS_READ)], tags=["artifacts"]
)
async def read_artifact(edge: EdgeDep, artifact_id: NamedArtifact) -> ArtifactDetails:
    """Look at an artifact: its manifest, its files, and what it was made from."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        artifact = await find(session, artifact_id)
        called = await names.names_of(session, [artifact_id])
    return ArtifactDetails.of(artifact, called.get(artifact_id, ()))


@routes.get(
    "/artifacts/{artifact_id}/lineage",
    dependencies=[needs(Scope.ARTIFACTS_READ)],
    tags=["artifacts"],
)
async def read_lineage(edge: EdgeDep, artifact_id: NamedArtifact) -> Lineage:
    """Walk to everything an artifact was made from: the audit trail of a result."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        walked = await lineage(session, artifact_id)
    return Lineage(id=artifact_id, artifacts=[ArtifactDocument.of(row) for row in walked])


@routes.get(
    "/artifacts/{artifact_id}/files/{path:path}",
    tags=["artifacts"],
    dependencies=[needs(Scope.ARTIFACTS_READ)],
    response_class=StreamingResponse,
    responses=_FILE,
)
async def read_file(
    edge: EdgeDep,
    artifact_id: ArtifactId,
    path: Annotated[
        str,
        Path(
            max_length=512,
            pattern=r"^[^\x00]*$",
            description="Its path, as the artifact's `files` name it.",
            examples=["circuit.json"],
        ),
    ],
    if_none_match: Annotated[str | None, Header(description="Digests the caller has.")] = None,
) -> Response:
    """Download a file of an artifact.

    It is streamed, decrypted where the tenant's objects are sealed, and checked on the way: the last
    part is sent only if the whole is what was stored, so a damaged file ends short of its length.
    Of a Risk Card, the files with prompts and answers are noted in the audit log.
    """
    return await download(edge, artifact_id, path, if_none_match)


@routes.get("/risk-cards", dependencies=[needs(Scope.ARTIFACTS_READ)], tags=["evaluation"])
async def list_risk_cards(
    edge: EdgeDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[ArtifactDocument]:
    """List Risk Cards, newest first; `summary` holds their main figures."""
    return await list_artifacts(edge, kind=["risk_card"], limit=limit, cursor=cursor)


@routes.get(
    "/risk-cards/{artifact_id}", dependencies=[needs(Scope.ARTIFACTS_READ)], tags=["evaluation"]
)
async def read_risk_card(edge: EdgeDep, artifact_id: NamedArtifact) -> RiskCardDocument:
    """Look at a Risk Card: defence, collateral damage, cost and comparisons."""
    artifact, card = await read_json_of(edge, artifact_id, "risk_card", CARD_FILE)
    return RiskCardDocument(
        risk_card_id=artifact_id, card=without_samples(card), artifact=ArtifactDocument.of(artifact)
    )


@routes.get("/reports", dependencies=[needs(Scope.ARTIFACTS_READ)], tags=["reports"])
async def list_reports(
    edge: EdgeDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[ArtifactDocument]:
    """List audit reports, newest first."""
    return await list_artifacts(edge, kind=["report"], limit=limit, cursor=cursor)


@routes.get(
    "/reports/{artifact_id}.pdf",
    dependencies=[needs(Scope.ARTIFACTS_READ)],
    tags=["reports"],
    response_class=StreamingResponse,
    responses=_PDF,
)
async def read_report(
    edge: EdgeDep,
    artifact_id: ArtifactId,
    if_none_match: Annotated[str | None, Header(description="Digests the caller has.")] = None,
) -> Response:
    """Download an audit report as PDF, with the APP mapping, figures and interventions."""
    return await download(edge, artifact_id, None, if_none_match)


@routes.get("/traces", dependencies=[needs(Scope.ARTIFACTS_READ)], tags=["traces"])
async def list_traces(
    edge: EdgeDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[ArtifactDocument]:
    """List traces, newest first."""
    return await list_artifacts(edge, kind=["trace"], limit=limit, cursor=cursor)


@routes.get("/dictionaries", dependencies=[needs(Scope.ARTIFACTS_READ)], tags=["dictionaries"])
async def list_dictionaries(
    edge: EdgeDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[ArtifactDocument]:
    """List feature dictionaries, newest first."""
    return await list_artifacts(edge, kind=["dictionary"], limit=limit, cursor=cursor)


def without_samples(card: dict[str, Any]) -> dict[str, Any]:
    """A card without prompts and answers, which are only given where it is written down to whom."""
    return {**card, "samples": []}


async def read_text(edge: Edge, artifact_id: str, path: str) -> str:
    """A text file of an artifact of the caller's tenant."""
    _, store, file = await locate(edge, artifact_id, path)
    return (await asyncio.to_thread(store.get, _ref(store, file))).decode()


async def read_json(edge: Edge, artifact_id: str, path: str) -> dict[str, Any]:
    """A JSON file of an artifact of the caller's tenant."""
    found: dict[str, Any] = json.loads(await read_text(edge, artifact_id, path))
    return found


async def download(
    edge: Edge, artifact_id: str, path: str | None, if_none_match: str | None
) -> Response:
    """The answer that holds a file of an artifact; without a path its PDF."""
    artifact, store, file = await locate(edge, artifact_id, path)
    etag = f'"{file.sha256}"'
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    name = file.path.rpartition("/")[2] if path is not None else f"{artifact.id}.pdf"
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    headers = {
        "etag": etag,
        "repr-digest": f"sha-256=:{digest}:",
        "cache-control": "private, max-age=31536000, immutable",
        "content-disposition": f'{"inline" if path is None else "attachment"}; filename="{safe}"',
    }
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers=headers)
    if artifact.kind == _WITH_SAMPLES[0] and file.path in _WITH_SAMPLES[1]:
        await _note_download(edge, artifact_id, file.path)
    pieces = store.pieces(_ref(store, file))
    # The first piece before the answer begins, so that what is gone is a 404 and no broken answer.
    first = await asyncio.to_thread(next, pieces, b"")
    headers["content-length"] = str(file.size)
    return StreamingResponse(_chain(first, pieces), media_type=file.media_type, headers=headers)


async def _note_download(edge: Edge, artifact_id: str, path: str) -> None:
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        await audit.append(
            session,
            principal.tenant_id,
            actor=principal.subject,
            action="risk_card.download",
            target=artifact_id,
            body={"file": path},
        )


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


async def read_text_of(edge: Edge, artifact_id: str, kind: str, path: str) -> str:
    """A text file of an artifact that must be of a kind.

    Raises:
        NotFoundError: When the caller's tenant has no such artifact, or it is of another kind.
    """
    return (await _read_of(edge, artifact_id, kind, path))[1].decode()


async def read_json_of(
    edge: Edge, artifact_id: str, kind: str, path: str
) -> tuple[Artifact, dict[str, Any]]:
    """An artifact of a kind, and a JSON file of it.

    Raises:
        NotFoundError: When there is none, or it is of another kind.
    """
    artifact, content = await _read_of(edge, artifact_id, kind, path)
    return artifact, json.loads(content)


async def _read_of(edge: Edge, artifact_id: str, kind: str, path: str) -> tuple[Artifact, bytes]:
    artifact, store, file = await locate(edge, artifact_id, path)
    if artifact.kind != kind:
        raise NotFoundError(
            f"there is no {kind.replace('_', ' ')} {artifact_id}", fix=f"it is a {artifact.kind}"
        )
    return artifact, await asyncio.to_thread(store.get, _ref(store, file))


async def locate(
    edge: Edge, artifact_id: str, path: str | None
) -> tuple[Artifact, ObjectStore, ArtifactFile]:
    """An artifact of the caller's tenant, the store it is in, and a file of it; without a path its PDF.

    Raises:
        NotFoundError: When there is no such artifact, or no such file of it.
    """
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        artifact = await find(session, artifact_id)
        store = await edge.stores.open(session)
    files = [ArtifactFile.model_validate(file) for file in artifact.manifest["files"]]
    for file in files:
        if file.path == path or (path is None and file.media_type == "application/pdf"):
            return artifact, store, file
    raise NotFoundError(
        f"{artifact_id} has no file {path}" if path else f"{artifact_id} is no report",
        fix="look at its files",
    )


def _ref(store: ObjectStore, file: ArtifactFile) -> ObjectRef:
    return store.ref(file.sha256, file.size, file.media_type)
