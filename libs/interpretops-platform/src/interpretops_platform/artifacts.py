"""Artifacts between machines: payloads in the object store, manifests and lineage in the database.

An artifact travels as the folder the engine exports: the payload's files beside a `manifest.json`
that names each with its digest. Objects are stored before the rows that point to them, and a folder
gets its manifest last, so that what can be seen is whole.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from interpretops_platform.canonical import canonical_json
from interpretops_platform.database.models import JSON, Artifact, ArtifactParent
from interpretops_platform.errors import NotFoundError, PlatformError

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.objects.store import ObjectStore

MANIFEST = "manifest.json"
_PLAIN = {"synchronize_session": False}  # no object in memory is used after the statement


class ArtifactDamagedError(PlatformError):
    """A folder or a row is not the artifact it says it is."""

    def __init__(self, what: str) -> None:
        super().__init__(what, fix="make the artifact anew")


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts or parts == (MANIFEST,):
        raise ValueError("a payload file lies inside its folder")
    return path


class PayloadFile(BaseModel):
    """One file of a payload, as the manifest names it."""

    path: Annotated[str, AfterValidator(_inside)]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    media_type: str


class Manifest(BaseModel):
    """What the platform has to know of a manifest; the engine knows the rest."""

    id: str = Field(pattern="^[a-z]{2,4}_[0-9A-Z]{26}$")
    kind: str
    schema_version: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    spec_hash: str = Field(pattern="^[0-9a-f]{64}$")
    parents: tuple[str, ...]
    files: tuple[PayloadFile, ...]


@dataclass(frozen=True)
class Upload:
    """An artifact whose payload is in the object store and whose rows are yet to be written."""

    manifest: Manifest
    content: JSON
    object_uri: str


def upload(store: ObjectStore, folder: Path) -> Upload:
    """Put the payload of an exported artifact, and a copy of its manifest, into the object store.

    Args:
        store: The objects of the tenant.
        folder: What the engine exported.

    Raises:
        ArtifactDamagedError: When a file is missing or is not what the manifest says.
        StoreUnavailableError: When it cannot be kept now.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise ArtifactDamagedError(f"{folder} holds no readable {MANIFEST}") from None
    manifest = _parse(content)
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file() or path.is_symlink():
            raise ArtifactDamagedError(f"{file.path} of {manifest.id} is missing")
        ref = store.put(path, media_type=file.media_type)
        if (ref.sha256, ref.size) != (file.sha256, file.size):
            raise ArtifactDamagedError(f"{file.path} of {manifest.id} was altered")
    copy = store.put(canonical_json(content).encode(), media_type="application/json")
    return Upload(manifest, content, copy.uri)


async def register(
    session: AsyncSession, tenant_id: UUID, uploaded: Upload, *, retention: timedelta
) -> None:
    """Write the rows of an artifact; doing it again only keeps it longer.

    Args:
        session: A `tenant_session`; best that which ends the job, as `JobResult.accept`.
        tenant_id: The tenant of that session.
        uploaded: From `upload`. Its parents must be registered.
        retention: How long it is kept from now on, if nothing that is kept longer needs it: the
            setting `compliance.retention`.

    Raises:
        ArtifactDamagedError: When another artifact has this id.
    """
    manifest = uploaded.manifest
    expires_at = func.clock_timestamp() + retention
    row = {
        "tenant_id": tenant_id,
        **manifest.model_dump(include={"id", "kind", "schema_version", "sha256", "spec_hash"}),
        "manifest": uploaded.content,
        "object_uri": uploaded.object_uri,
        "size": sum(file.size for file in manifest.files),
        "expires_at": expires_at,
    }
    is_new = await session.scalar(
        upsert(Artifact).values(row).on_conflict_do_nothing().returning(Artifact.id)
    )
    if is_new is None:
        if (await find(session, manifest.id)).manifest != uploaded.content:
            raise ArtifactDamagedError(f"there is another artifact {manifest.id}")
        longer = update(Artifact).where(
            Artifact.id == manifest.id, Artifact.expires_at < expires_at
        )
        await session.execute(longer.values(expires_at=expires_at), execution_options=_PLAIN)
        return
    edges = [
        {"tenant_id": tenant_id, "artifact_id": manifest.id, "parent_id": parent}
        for parent in dict.fromkeys(manifest.parents)
    ]
    if edges:
        await session.execute(insert(ArtifactParent).values(edges))


async def find(session: AsyncSession, artifact_id: str) -> Artifact:
    """The row of an artifact.

    Raises:
        NotFoundError: When this tenant has no such artifact.
    """
    artifact = await session.scalar(select(Artifact).where(Artifact.id == artifact_id))
    if artifact is None:
        raise NotFoundError(
            f"there is no artifact {artifact_id}", fix="list the artifacts you have"
        )
    return artifact


async def lineage(session: AsyncSession, artifact_id: str) -> list[Artifact]:
    """An artifact and all it was made from, parents before children, itself last.

    Raises:
        NotFoundError: When this tenant has no such artifact.
    """
    await find(session, artifact_id)
    walk = (
        select(ArtifactParent.artifact_id, ArtifactParent.parent_id)
        .where(ArtifactParent.artifact_id == artifact_id)
        .cte(recursive=True)
    )
    walk = walk.union(
        select(ArtifactParent.artifact_id, ArtifactParent.parent_id).join(
            walk, ArtifactParent.artifact_id == walk.c.parent_id
        )
    )
    parents: dict[str, list[str]] = {}
    for child, parent in await session.execute(select(walk.c.artifact_id, walk.c.parent_id)):
        parents.setdefault(child, []).append(parent)
    order = _parents_first(artifact_id, parents)
    rows = await session.scalars(select(Artifact).where(Artifact.id.in_(order)))
    by_id = {row.id: row for row in rows}
    return [by_id[identifier] for identifier in order]


async def newest_made_from(session: AsyncSession, artifact_id: str, kind: str) -> Artifact | None:
    """The newest artifact of a kind that this one is in the lineage of, or none.

    Args:
        session: A `tenant_session`.
        artifact_id: What it was made from, directly or not.
        kind: What it is, such as `risk_card`.

    Raises:
        NotFoundError: When this tenant has no artifact of that id.
    """
    await find(session, artifact_id)
    walk = (
        select(ArtifactParent.artifact_id)
        .where(ArtifactParent.parent_id == artifact_id)
        .cte(recursive=True)
    )
    walk = walk.union(
        select(ArtifactParent.artifact_id).join(
            walk, ArtifactParent.parent_id == walk.c.artifact_id
        )
    )
    newest: Artifact | None = await session.scalar(
        select(Artifact)
        .where(Artifact.kind == kind, Artifact.id.in_(select(walk.c.artifact_id)))
        .order_by(Artifact.created_at.desc(), Artifact.id.desc())
        .limit(1)
    )
    return newest


def download(store: ObjectStore, artifact: Artifact, folder: Path) -> None:
    """Write an artifact as the folder that the engine imports; the manifest comes last.

    Args:
        store: The objects of the tenant.
        artifact: From `find` or `lineage`.
        folder: A new or empty folder.

    Raises:
        ArtifactDamagedError: When the manifest in the database was altered.
        NotFoundError: When a part of the payload is gone.
        ObjectCorruptError: When a part of the payload was altered.
        StoreUnavailableError: When it cannot be read now.
    """
    manifest = _parse(artifact.manifest)
    folder.mkdir(parents=True, exist_ok=True)
    for file in manifest.files:
        ref = store.ref(file.sha256, file.size, file.media_type)
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            for piece in store.pieces(ref):
                target.write(piece)
    temporary = folder / f".{MANIFEST}"
    temporary.write_text(json.dumps(artifact.manifest, indent=2), encoding="utf-8")
    os.replace(temporary, folder / MANIFEST)


def _parse(content: Any) -> Manifest:
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ArtifactDamagedError(f"the manifest is wrong at {key}: {first['msg']}") from None


def _parents_first(artifact_id: str, parents: dict[str, list[str]]) -> list[str]:
    order: dict[str, None] = {}
    stack = [(artifact_id, False)]
    while stack:
        identifier, done = stack.pop()
        if done:
            order[identifier] = None
        elif identifier not in order:
            stack.append((identifier, True))
            stack.extend((parent, False) for parent in parents.get(identifier, ()))
    return list(order)
