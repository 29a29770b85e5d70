"""The query that scales workers, asked of a real database by the role that the autoscaler logs in as."""

import pytest
from interpretops_platform.database.engine import create_migration_engine
from interpretops_platform.database.models import Job
from interpretops_platform.database.session import tenant_session
from interpretops_platform.jobs.submit import JobRequest, submit
from interpretops_platform.settings import SCALER_ROLE
from interpretops_platform.testing import (  # noqa: F401 - fixtures
    database,
    other_tenant_id,
    postgres_server,
    settings,
    tenant_id,
)
from sqlalchemy import text, update

STATES = {
    "QUEUED": {},
    "RUNNING": {"lease_owner": "w", "lease_until": text("now()")},
    "SUCCEEDED": {"finished_at": text("now()")},
    "CANCELLED": {"finished_at": text("now()")},
}


@pytest.fixture
async def jobs(database, tenant_id, other_tenant_id):
    """One job of each state and of two kinds for each of two tenants."""
    for owner in (tenant_id, other_tenant_id):
        for kind in ("trace", "eval"):
            for state, more in STATES.items():
                async with tenant_session(database, owner) as session:
                    made = (await submit(session, owner, JobRequest(kind=kind))).job
                    changed = update(Job).where(Job.id == made.id).values(state=state, **more)
                    await session.execute(changed)


async def test_workers_are_wanted_for_jobs_that_wait_or_run(jobs, settings, rendered):
    engine = create_migration_engine(settings.owner_url(), settings.database)
    counted = {}
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"SET ROLE {SCALER_ROLE}"))
            for scaler in rendered("eks").of("ScaledObject"):
                trigger = scaler["spec"]["triggers"][0]
                if trigger["type"] == "postgresql":
                    name = scaler["metadata"]["name"].removeprefix("interpretops-worker-")
                    counted[name] = await connection.scalar(text(trigger["metadata"]["query"]))
    finally:
        await engine.dispose()
    assert counted == {"trace": 4, "eval": 4, "sae": 0, "circuit": 0, "policy": 0, "report": 0}
