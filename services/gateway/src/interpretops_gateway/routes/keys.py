"""`/keys`: API keys of the caller's tenant."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Path, Query
from interpretops_platform.database.models import ApiKey
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import SettingsError
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security import key_store
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import Role, Scope
from pydantic import Field
from sqlalchemy import select

from interpretops_gateway.bodies import Body, example
from interpretops_gateway.documents import KeyDocument
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.pages import Cursor, Limit, Page, read_page
from interpretops_gateway.routing import needs, router

routes = router("keys")

Prefix = Annotated[
    str,
    Path(pattern="^[a-z2-7]{12}$", description="Names the key.", examples=["k4jx2m5q7wza"]),
]
Seconds = Annotated[int, Field(ge=1, le=10 * 365 * 86400)]


class IssueBody(Body):
    """A key to issue. It can do no more than its issuer."""

    model_config = example(
        {"name": "nightly-evals", "roles": ["operator"], "lifetime_seconds": 7776000}
    )

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}$",
        description="Who or what will use it; it stands in the audit log as `key:name`.",
    )
    roles: list[Annotated[Role, Field(strict=False)]] = Field(
        min_length=1, max_length=4, description="What its user is."
    )
    scopes: list[Annotated[Scope, Field(strict=False)]] | None = Field(
        default=None, min_length=1, description="Narrows the roles; none leaves all they allow."
    )
    lifetime_seconds: Seconds | None = Field(
        default=None, description="After this it is refused; none stands for ever."
    )


class RotateBody(Body):
    """How a key is replaced."""

    model_config = example({"grace_seconds": 86400})

    grace_seconds: Annotated[int, Field(ge=0, le=365 * 86400)] = Field(
        default=86400, description="How long the old key goes on."
    )
    lifetime_seconds: Seconds | None = Field(
        default=None, description="How long the new key lives; none stands for ever."
    )


class IssuedDocument(KeyDocument):
    """A new key. This is the only time that it is shown."""

    key: str = Field(description="The key itself: keep it, for nobody can show it again.")


@routes.post("/keys", status_code=201, dependencies=[needs(Scope.KEYS_WRITE)])
async def issue_key(edge: EdgeDep, body: IssueBody) -> IssuedDocument:
    """Issue a key for this tenant."""
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        issued = await key_store.issue_key(
            session,
            principal.tenant_id,
            name=body.name,
            roles=body.roles,
            scopes=body.scopes,
            lifetime=_duration(body.lifetime_seconds),
            peppers=_peppers(edge),
            issuer=principal,
        )
        row = await key_store.get_key(session, issued.token.prefix)
    return IssuedDocument(**dict(KeyDocument.of(row)), key=issued.token.text)


@routes.get("/keys", dependencies=[needs(Scope.KEYS_READ)])
async def list_keys(
    edge: EdgeDep,
    active: Annotated[
        bool, Query(description="Leave out what was revoked or has expired.")
    ] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[KeyDocument]:
    """List keys, newest first, without their secrets."""
    query = select(ApiKey)
    if active:
        now = datetime.now(UTC)
        query = query.where(
            ApiKey.revoked_at.is_(None),
            (ApiKey.expires_at.is_(None)) | (ApiKey.expires_at > now),
        )
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        order = (ApiKey.created_at, ApiKey.prefix)
        return await read_page(session, query, order, KeyDocument.of, limit=limit, cursor=cursor)


@routes.post("/keys/{prefix}/rotate", status_code=201, dependencies=[needs(Scope.KEYS_WRITE)])
async def rotate_key(edge: EdgeDep, prefix: Prefix, body: RotateBody) -> IssuedDocument:
    """Replace a key by one of the same name and rights; for a while both work."""
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        successor = await key_store.rotate_key(
            session,
            prefix,
            peppers=_peppers(edge),
            grace=timedelta(seconds=body.grace_seconds),
            lifetime=_duration(body.lifetime_seconds),
            issuer=principal,
        )
        row = await key_store.get_key(session, successor.token.prefix)
    edge.authenticator.forget(prefix)
    return IssuedDocument(**dict(KeyDocument.of(row)), key=successor.token.text)


@routes.delete("/keys/{prefix}", dependencies=[needs(Scope.KEYS_WRITE)])
async def revoke_key(edge: EdgeDep, prefix: Prefix) -> KeyDocument:
    """Revoke a key. It is refused everywhere within a few seconds, here at once."""
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        row = await key_store.revoke_key(session, prefix, revoker=principal)
    edge.authenticator.forget(prefix)
    return KeyDocument.of(row)


def _peppers(edge: Edge) -> Peppers:
    path = edge.settings.security.pepper_file
    if path is None:
        raise SettingsError("API keys are not set up", fix="set security.pepper_file")
    return Peppers.from_file(path)


def _duration(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
