"""`/tenant`: the caller's own tenant, what it keeps and for how long, and its end."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from interpretops_platform.database.models import Artifact, Job, Tenant
from interpretops_platform.database.session import tenant_session
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from interpretops_platform.tenants import shred_tenant
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from interpretops_gateway.bodies import Body, example
from interpretops_gateway.edge import EdgeDep
from interpretops_gateway.problems import invalid
from interpretops_gateway.routing import needs, router

routes = router("tenant")

_SOON = timedelta(days=3)


class TenantDocument(BaseModel):
    """An organisation whose data no other one sees."""

    id: UUID
    name: str
    created_at: datetime
    sealed: bool = Field(description="Whether its objects are encrypted with a key of its own.")
    artifacts: int
    bytes: int = Field(description="Of its artifacts' files.")
    jobs: int
    expiring: int = Field(description="Artifacts that retention may delete within three days.")
    retention_days: int = Field(
        description="How long artifacts, finished jobs and retired policies are kept; the "
        "installation's setting."
    )
    pii_redaction: bool = Field(
        description="Whether personal information is removed before anything is kept."
    )
    separation_of_duties: bool = Field(
        description="Whether a policy needs a second person to approve and to activate it."
    )


class ShredBody(Body):
    """Says which tenant is meant, so that none is shredded by mistake."""

    model_config = example({"name": "default"})

    name: str = Field(max_length=200, description="The tenant's own name.")


class ShreddedDocument(BaseModel):
    """What was deleted with a tenant."""

    jobs: int
    artifacts: int
    policies: int
    keys: int


@routes.get("/tenant", dependencies=[needs()])
async def read_tenant(edge: EdgeDep) -> TenantDocument:
    """Look at one's own tenant: what it keeps, and for how long."""
    settings = edge.settings
    soon = datetime.now(UTC) + _SOON
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        tenant = (await session.scalars(select(Tenant))).one()
        figures = select(
            func.count(),
            func.coalesce(func.sum(Artifact.size), 0),
            func.count().filter(Artifact.expires_at < soon),
        )
        artifacts, size, expiring = (await session.execute(figures)).one()
        jobs = await session.scalar(select(func.count()).select_from(Job))
        return TenantDocument(
            id=tenant.id,
            name=tenant.name,
            created_at=tenant.created_at,
            sealed=tenant.wrapped_data_key is not None,
            artifacts=artifacts,
            bytes=int(size),
            jobs=jobs or 0,
            expiring=expiring,
            retention_days=settings.compliance.retention_days,
            pii_redaction=settings.compliance.pii_redaction,
            separation_of_duties=settings.security.separation_of_duties,
        )


@routes.delete("/tenant", dependencies=[needs(Scope.TENANTS_WRITE)])
async def delete_tenant(edge: EdgeDep, body: ShredBody) -> ShreddedDocument:
    """Shred one's own tenant: its data key and its rows go, and no copy of its objects opens again.

    Its keys stop working with it. What remains is its name and its audit log.
    """
    principal = current_principal()
    async with tenant_session(edge.database, principal.tenant_id) as session:
        name = await session.scalar(select(Tenant.name))
        if body.name != name:
            raise invalid(
                "name", "is not the name of your tenant", "give the name that GET /tenant shows"
            )
        deleted = await shred_tenant(session, actor=principal.subject)
    return ShreddedDocument(
        jobs=deleted.jobs,
        artifacts=len(deleted.artifacts),
        policies=len(deleted.policies),
        keys=deleted.keys,
    )
