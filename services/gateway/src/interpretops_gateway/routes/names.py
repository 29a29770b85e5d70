"""`/names`: what people call artifacts, in place of ids that nobody remembers."""

from datetime import datetime
from typing import Annotated

from fastapi import Path
from interpretops_platform import names
from interpretops_platform.database.models import ArtifactName
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from pydantic import BaseModel, Field
from sqlalchemy import select

from interpretops_gateway.bodies import Body, example
from interpretops_gateway.contracts import ARTIFACT_ID
from interpretops_gateway.documents import ArtifactKind
from interpretops_gateway.edge import EdgeDep
from interpretops_gateway.pages import Cursor, Limit, Page, read_page
from interpretops_gateway.problems import missing
from interpretops_gateway.routing import needs, router

routes = router("artifacts")

Name = Annotated[
    str, Path(pattern=names.NAME_PATTERN, description="The name.", examples=["sae_v1"])
]


class NameBody(Body):
    """What is called so."""

    model_config = example({"artifact": "sae_01ARZ3NDEKTSV4RRFFQ69G5FAV"})

    artifact: str = Field(pattern=ARTIFACT_ID, description="Id of the artifact.")


class NameDocument(BaseModel):
    """A name, and the artifact it stands for."""

    name: str = Field(examples=["sae_v1"])
    artifact: str = Field(description="Id of the artifact.")
    kind: ArtifactKind | str
    author: str = Field(description="Who gave the name to this artifact.", examples=["key:ci"])
    updated_at: datetime

    @classmethod
    def of(cls, row: ArtifactName) -> "NameDocument":
        """What callers see of a row."""
        return cls(
            name=row.name,
            artifact=row.artifact_id,
            kind=row.artifact.kind,
            author=row.author,
            updated_at=row.updated_at,
        )


@routes.get("/names", dependencies=[needs(Scope.ARTIFACTS_READ)])
async def list_names(edge: EdgeDep, limit: Limit = 50, cursor: Cursor = None) -> Page[NameDocument]:
    """List names of artifacts, those that were given or moved last first."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        order = (ArtifactName.updated_at, ArtifactName.name)
        query = select(ArtifactName)
        return await read_page(session, query, order, NameDocument.of, limit=limit, cursor=cursor)


@routes.get("/names/{name}", dependencies=[needs(Scope.ARTIFACTS_READ)])
async def read_name(edge: EdgeDep, name: Name) -> NameDocument:
    """Look at what a name stands for."""
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        return NameDocument.of(await names.read_name(session, name))


@routes.put(
    "/names/{name}",
    dependencies=[needs(Scope.ARTIFACTS_WRITE)],
    responses={409: {"description": "The name stands for an artifact of another kind."}},
)
async def write_name(edge: EdgeDep, name: Name, body: NameBody) -> NameDocument:
    """Call an artifact something, or move a name to it from another one of its kind.

    Wherever a body asks for the id of an artifact, its name does too. A name goes with its artifact.
    Every change is in the audit log.
    """
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        try:
            written = await names.write_name(session, principal, name, body.artifact)
        except NotFoundError as error:
            raise missing("artifact", error) from error
        return NameDocument.of(written)


@routes.delete("/names/{name}", dependencies=[needs(Scope.ARTIFACTS_WRITE)])
async def remove_name(edge: EdgeDep, name: Name) -> NameDocument:
    """Take a name away from its artifact, which stays. It is in the audit log."""
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        return NameDocument.of(await names.remove_name(session, principal, name))
