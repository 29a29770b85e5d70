"""`/audit`: who did what, in a chain that nobody can change unnoticed."""

from typing import Annotated

from fastapi import Query
from interpretops_platform.audit import AuditBrokenError, Head, verify
from interpretops_platform.database.models import AuditEntry
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from pydantic import BaseModel, Field
from sqlalchemy import select

from interpretops_gateway.contracts import STORABLE
from interpretops_gateway.documents import AuditDocument
from interpretops_gateway.edge import EdgeDep
from interpretops_gateway.pages import Cursor, Limit, Page, read_page
from interpretops_gateway.problems import invalid
from interpretops_gateway.routing import needs, router

routes = router("audit")

_Text = Annotated[str | None, Query(max_length=300, pattern=STORABLE)]


class AuditVerdict(BaseModel):
    """What came of walking the chain."""

    intact: bool
    seq: int = Field(description="The newest entry; where the chain is broken, the entry at fault.")
    hash: str | None = Field(
        default=None, description="Of the newest entry. Note it elsewhere, and give it next time."
    )
    problem: str | None = Field(default=None, description="What is wrong with the entry at fault.")


@routes.get("/audit", dependencies=[needs(Scope.AUDIT_READ)])
async def list_audit(
    edge: EdgeDep,
    actor: _Text = None,
    action: _Text = None,
    target: _Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AuditDocument]:
    """List what was done, newest first; filters take whole names, such as `policy.activate`."""
    query = select(AuditEntry)
    wanted = {AuditEntry.actor: actor, AuditEntry.action: action, AuditEntry.target: target}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(column == value)
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        order = (AuditEntry.seq,)
        return await read_page(session, query, order, AuditDocument.of, limit=limit, cursor=cursor)


@routes.get("/audit/verify", dependencies=[needs(Scope.AUDIT_READ)])
async def verify_audit(
    edge: EdgeDep,
    seq: Annotated[
        int | None, Query(ge=1, lt=2**63, description="Number of an entry noted earlier.")
    ] = None,
    digest: Annotated[
        str | None,
        Query(alias="hash", pattern="^[0-9a-f]{64}$", description="Hash of that entry."),
    ] = None,
) -> AuditVerdict:
    """Walk the chain from its beginning and say whether it is the one that was written.

    Whoever takes over the database could rewrite the chain to its end; against that, give the
    newest `seq` and `hash` of an earlier walk, which must still be part of it.
    """
    if (seq is None) != (digest is None):
        raise invalid("hash" if digest is None else "seq", "is missing", "give both or neither")
    known = [] if seq is None or digest is None else [Head(seq, digest)]
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        try:
            head = await verify(session, known=known)
        except AuditBrokenError as error:
            return AuditVerdict(intact=False, seq=error.seq, problem=error.problem)
    return AuditVerdict(intact=True, seq=head.seq, hash=head.hash)
