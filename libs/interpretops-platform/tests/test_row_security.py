"""Nobody sees or touches the rows of another tenant, whatever SQL they manage to run."""

import pytest
from interpretops_platform.database.engine import create_migration_engine
from interpretops_platform.database.models import (
    ApiKey,
    Artifact,
    AuditEntry,
    Base,
    Job,
    Policy,
    Tenant,
)
from interpretops_platform.database.session import system_session, tenant_session
from interpretops_platform.jobs.submit import JobRequest, submit
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

TABLES = sorted(Base.metadata.tables)


def artifact(tenant_id, name="tr_1"):
    return Artifact(
        tenant_id=tenant_id,
        id=name,
        kind="trace",
        schema_version=1,
        sha256="0" * 64,
        spec_hash="1" * 64,
        manifest={},
        object_uri="file:///nowhere",
        size=1,
    )


def policy(tenant_id):
    return Policy(
        id="pv_1",
        tenant_id=tenant_id,
        name="jailbreak",
        version=1,
        model="tiny",
        yaml="",
        author="ada",
    )


async def _refused(session_context, statement, error="permission denied|row-level security"):
    with pytest.raises(DBAPIError, match=error):
        async with session_context as session:
            await session.execute(statement)


@pytest.mark.parametrize("table", TABLES)
async def test_every_table_forces_row_security_and_the_roles_own_nothing(database, table):
    query = text(
        "SELECT relrowsecurity, relforcerowsecurity, relowner::regrole::text FROM pg_class"
        " WHERE oid = cast(:table AS regclass)"
    )
    async with database.app() as session:
        enabled, forced, owner = (await session.execute(query, {"table": table})).one()
    assert enabled
    assert forced
    assert not owner.startswith("interpretops_")


@pytest.mark.parametrize("table", [name for name in TABLES if name != "outbox"])
async def test_without_a_tenant_no_row_is_seen(database, tenant_id, table):
    async with tenant_session(database, tenant_id) as session:
        session.add_all([artifact(tenant_id), policy(tenant_id)])
    async with database.app() as session:
        assert (await session.execute(text(f"SELECT * FROM {table}"))).all() == []


async def test_the_roles_cannot_escape(database):
    query = text(
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles"
        " WHERE rolname LIKE 'interpretops_%'"
    )
    async with database.app() as session:
        rows = (await session.execute(query)).all()
        assert [tuple(row)[1:] for row in rows] == [(False, False, False)] * 3
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.execute(text("SET ROLE interpretops_system"))


async def test_an_autoscaler_counts_unfinished_jobs_of_all_tenants_and_learns_no_more(
    database, postgres_server, settings, tenant_id, other_tenant_id
):
    for owner in (tenant_id, other_tenant_id):
        async with tenant_session(database, owner) as session:
            await submit(session, owner, JobRequest(kind="trace"))
            done = (await submit(session, owner, JobRequest(kind="trace"))).job
            await session.execute(
                update(Job)
                .where(Job.id == done.id)
                .values(state="CANCELLED", finished_at=text("now()"))
            )
    engine = create_migration_engine(settings.owner_url(), settings.database)
    count = text("SELECT count(*) FROM jobs WHERE kind IN ('trace') AND finished_at IS NULL")
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SET ROLE interpretops_scaler"))
            assert await connection.scalar(count) == 2
            for forbidden in ("SELECT tenant_id FROM jobs", "SELECT 1 FROM tenants"):
                with pytest.raises(DBAPIError, match="permission denied"):
                    async with connection.begin_nested():
                        await connection.execute(text(forbidden))
            with pytest.raises(DBAPIError, match="permission denied"):
                async with connection.begin_nested():
                    await connection.execute(text("UPDATE jobs SET state = 'FAILED'"))
    finally:
        await engine.dispose()


async def test_a_tenant_sees_its_own_rows_only(database, tenant_id, other_tenant_id):
    async with tenant_session(database, tenant_id) as session:
        session.add(artifact(tenant_id))
    async with tenant_session(database, other_tenant_id) as session:
        assert (await session.scalars(select(Artifact))).all() == []
        assert (await session.scalars(select(Tenant.id))).all() == [other_tenant_id]
        changed = await session.execute(update(Artifact).values(expires_at=None))
        assert changed.rowcount == 0
        deleted = await session.execute(text("DELETE FROM artifacts"))
        assert deleted.rowcount == 0
    async with tenant_session(database, tenant_id) as session:
        assert (await session.scalars(select(Artifact.id))).all() == ["tr_1"]


async def test_a_row_cannot_be_written_for_another_tenant(database, tenant_id, other_tenant_id):
    with pytest.raises(DBAPIError, match="row-level security"):
        async with tenant_session(database, tenant_id) as session:
            session.add(artifact(other_tenant_id))


async def test_a_row_cannot_point_into_another_tenant(database, tenant_id, other_tenant_id):
    async with tenant_session(database, other_tenant_id) as session:
        session.add(artifact(other_tenant_id))
    pointing = policy(tenant_id)
    pointing.artifact_id = "tr_1"
    with pytest.raises(IntegrityError, match="fk_policies_artifacts"):
        async with tenant_session(database, tenant_id) as session:
            session.add(pointing)


async def test_a_pooled_connection_forgets_its_tenant(database, tenant_id):
    async with tenant_session(database, tenant_id) as session:
        session.add(artifact(tenant_id))
        backend = await session.scalar(text("SELECT pg_backend_pid()"))
    async with database.app() as session:
        assert await session.scalar(text("SELECT pg_backend_pid()")) == backend
        assert (await session.scalars(select(Artifact))).all() == []


async def test_the_system_role_reaches_jobs_and_nothing_else(database, tenant_id):
    async with tenant_session(database, tenant_id) as session:
        session.add_all([artifact(tenant_id), policy(tenant_id)])
    for table in ("artifacts", "policies", "api_keys", "audit_log", "artifact_parents"):
        await _refused(system_session(database), text(f"SELECT * FROM {table}"))
    await _refused(system_session(database), text("SELECT wrapped_data_key FROM tenants"))
    await _refused(system_session(database), text("UPDATE jobs SET spec = '{}'"))


async def test_what_was_asked_for_never_changes(database, tenant_id):
    for column in ("spec = '{}'", "attempt = 9", "idempotency_key = 'x'", "kind = 'x'"):
        await _refused(tenant_session(database, tenant_id), text(f"UPDATE jobs SET {column}"))


async def test_what_was_approved_never_changes(database, tenant_id):
    for column in ("yaml = 'x'", "model = 'x'", "author = 'x'", "version = 9"):
        await _refused(tenant_session(database, tenant_id), text(f"UPDATE policies SET {column}"))


async def test_only_what_nothing_needs_can_be_deleted(database, tenant_id):
    job = {"tenant_id": tenant_id, "kind": "trace", "spec": {}, "inputs": {}}
    job |= {"request_hash": "", "priority": 5, "max_attempts": 3}
    key = ApiKey(tenant_id=tenant_id, prefix="ab12", hash=b"h", name="n", scopes=[], roles=[])
    async with tenant_session(database, tenant_id) as session:
        ended = {"id": "job_2", "state": "FAILED", "finished_at": text("now()")}
        session.add_all([policy(tenant_id), key])
        await session.execute(insert(Job).values(job | {"id": "job_1"}))
        await session.execute(insert(Job).values(job | ended))
    tables = ("jobs", "policies", "api_keys")
    async with tenant_session(database, tenant_id) as session:
        gone = [(await session.execute(text(f"DELETE FROM {name}"))).rowcount for name in tables]
        assert gone == [1, 0, 0]
        assert (await session.scalars(select(Job.id))).all() == ["job_1"]
    async with tenant_session(database, tenant_id) as session:
        await session.execute(update(Tenant).values(shredded_at=text("now()")))
        gone = [(await session.execute(text(f"DELETE FROM {name}"))).rowcount for name in tables]
        assert gone == [1, 1, 1]


async def test_the_audit_log_takes_no_change(database, settings, tenant_id):
    from interpretops_platform.database.engine import create_migration_engine

    entry = {
        "tenant_id": tenant_id,
        "seq": 1,
        "actor": "ada",
        "action": "x",
        "target": "y",
        "body": {},
        "previous_hash": "",
        "hash": "z",
    }
    async with tenant_session(database, tenant_id) as session:
        await session.execute(insert(AuditEntry).values(entry | {"at": text("now()")}))
    await _refused(tenant_session(database, tenant_id), text("DELETE FROM audit_log"))
    # Not even the superuser, unless they first disable the trigger, which leaves a trace.
    owner = create_migration_engine(settings.owner_url(), settings.database)
    for statement in (
        "UPDATE audit_log SET hash = ''",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            async with owner.begin() as connection:
                await connection.execute(text(statement))
    await owner.dispose()


async def test_a_key_is_found_by_its_prefix_only(database, tenant_id):
    async with tenant_session(database, tenant_id) as session:
        session.add_all(
            ApiKey(tenant_id=tenant_id, prefix=name, hash=b"h", name=name, scopes=[], roles=[])
            for name in ("ab12", "cd34")
        )
    async with database.app() as session, session.begin():
        await session.execute(text("SELECT set_config('app.key_prefix', 'ab12', true)"))
        assert (await session.scalars(select(ApiKey.prefix))).all() == ["ab12"]


async def test_values_do_not_show_in_errors(database, tenant_id):
    with pytest.raises(DBAPIError, match="division by zero") as caught:
        async with tenant_session(database, tenant_id) as session:
            query = text("SELECT 1 / (length(cast(:password AS text)) - 7)")
            await session.execute(query, {"password": "hunter2"})
    assert "hunter2" not in str(caught.value)
