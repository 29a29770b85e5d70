"""Tables of tenancy, jobs, artifacts, policies and audit, and who may touch which row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_APP = "interpretops_app"
_SYSTEM = "interpretops_system"

_TABLES = (
    "tenants",
    "api_keys",
    "artifacts",
    "audit_log",
    "artifact_parents",
    "jobs",
    "policies",
    "job_events",
    "outbox",
)

_APP_GRANTS = {
    "tenants": "SELECT, UPDATE (wrapped_data_key)",
    "api_keys": "SELECT, INSERT, UPDATE (expires_at, revoked_at, last_used_at)",
    "artifacts": "SELECT, INSERT, DELETE, UPDATE (expires_at)",
    "artifact_parents": "SELECT, INSERT",
    # What was asked for never changes, and only a claim raises the fencing token.
    "jobs": "SELECT, INSERT, UPDATE (state, handed_back, lease_owner, lease_until, cancel_requested,"
    " progress, checkpoint_uri, result_artifact_id, error, available_at, finished_at)",
    "outbox": "INSERT",
    "job_events": "SELECT, INSERT",
    "policies": "SELECT, INSERT,"
    " UPDATE (artifact_id, yaml, state, approver, approved_at, activated_at)",
    "audit_log": "SELECT, INSERT",
}
_SYSTEM_GRANTS = {
    "tenants": "SELECT (id, name, created_at), INSERT (id, name, wrapped_data_key)",
    "jobs": "SELECT, UPDATE (state, attempt, lease_owner, lease_until, error, available_at,"
    " started_at, finished_at)",
    "outbox": "SELECT, INSERT, DELETE, UPDATE (sent_at)",
    "job_events": "INSERT",
}
# A setting that is unset reads as null, and as an empty string once a transaction has set it.
_TENANT = "(nullif(current_setting('app.tenant_id', true), ''))::uuid"
_PRESENTED_PREFIX = "nullif(current_setting('app.key_prefix', true), '')"


def upgrade() -> None:
    """Make everything."""
    _create_roles()
    _create_tables()
    op.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # the default before PostgreSQL 15
    for table, privileges in _APP_GRANTS.items():
        op.execute(f"GRANT {privileges} ON {table} TO {_APP}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        owner = "id" if table == "tenants" else "tenant_id"
        op.execute(
            f"CREATE POLICY one_tenant ON {table} TO {_APP}"
            f" USING ({owner} = {_TENANT}) WITH CHECK ({owner} = {_TENANT})"
        )
    # Who calls is not known before the key is looked up: whoever presents a prefix sees its row.
    op.execute(
        f"CREATE POLICY presented_key ON api_keys FOR SELECT TO {_APP}"
        f" USING (prefix = {_PRESENTED_PREFIX})"
    )
    for table, privileges in _SYSTEM_GRANTS.items():
        op.execute(f"GRANT {privileges} ON {table} TO {_SYSTEM}")
        op.execute(f"CREATE POLICY system ON {table} TO {_SYSTEM} USING (true) WITH CHECK (true)")
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    """Leave nothing."""
    for table in reversed(_TABLES):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")
    for role in (_APP, _SYSTEM):
        # Roles belong to the cluster; another database may still use them.
        op.execute(
            f"""
            DO $$ BEGIN
              DROP ROLE {role};
            EXCEPTION WHEN dependent_objects_still_exist OR object_in_use THEN NULL;
            END $$
            """
        )


def _create_roles() -> None:
    for role in (_APP, _SYSTEM):
        op.execute(
            f"""
            DO $$ BEGIN
              CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS;
            EXCEPTION WHEN duplicate_object THEN NULL;
            END $$
            """
        )


def _create_tables() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("wrapped_data_key", sa.LargeBinary(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("roles", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("spec_hash", sa.Text(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("object_uri", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_artifacts_sha256")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_artifacts_tenants")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_artifacts")),
    )
    op.create_index(op.f("ix_artifacts_expires_at"), "artifacts", ["expires_at"], unique=False)
    op.create_index(
        op.f("ix_artifacts_manifest"),
        "artifacts",
        ["manifest"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"manifest": "jsonb_path_ops"},
    )
    op.create_index(
        op.f("ix_artifacts_tenant_id_kind_created_at_id"),
        "artifacts",
        ["tenant_id", "kind", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_artifacts_tenant_id_spec_hash"),
        "artifacts",
        ["tenant_id", "spec_hash"],
        unique=False,
    )
    op.create_table(
        "audit_log",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_audit_log_tenants")),
        sa.PrimaryKeyConstraint("tenant_id", "seq", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "artifact_parents",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "artifact_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            name="fk_artifact_parents_child",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "parent_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            name="fk_artifact_parents_parent",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "artifact_id", "parent_id", name=op.f("pk_artifact_parents")
        ),
    )
    op.create_index(
        op.f("ix_artifact_parents_tenant_id_parent_id"),
        "artifact_parents",
        ["tenant_id", "parent_id"],
        unique=False,
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="QUEUED", nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("handed_back", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("checkpoint_uri", sa.Text(), nullable=True),
        sa.Column("result_artifact_id", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "trace_context",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
        ),
        sa.Column("created_by", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "available_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state NOT IN ('QUEUED','RUNNING'))",
            name=op.f("ck_jobs_finished"),
        ),
        sa.CheckConstraint("kind ~ '^[a-z][a-z0-9_]{0,31}$'", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "state <> 'RUNNING' OR (lease_owner IS NOT NULL AND lease_until IS NOT NULL)",
            name=op.f("ck_jobs_lease"),
        ),
        sa.CheckConstraint(
            "state IN ('QUEUED','RUNNING','SUCCEEDED','FAILED','CANCELLED','DEAD_LETTERED')",
            name=op.f("ck_jobs_state"),
        ),
        sa.CheckConstraint(
            "attempt >= 0 AND handed_back BETWEEN 0 AND attempt", name=op.f("ck_jobs_attempts")
        ),
        sa.CheckConstraint("max_attempts BETWEEN 1 AND 100", name=op.f("ck_jobs_max_attempts")),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_jobs_priority")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "result_artifact_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            name="fk_jobs_result",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_jobs_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_jobs_tenant_id_id")),
        sa.UniqueConstraint(
            "tenant_id",
            "kind",
            "idempotency_key",
            name=op.f("uq_jobs_tenant_id_kind_idempotency_key"),
        ),
    )
    op.create_index(
        "ix_jobs_lease_until",
        "jobs",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("state = 'RUNNING'"),
    )
    op.create_index(
        op.f("ix_jobs_tenant_id_created_at_id"),
        "jobs",
        ["tenant_id", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "policies",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("artifact_id", sa.Text(), nullable=True),
        sa.Column("yaml", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="draft", nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("approver", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('draft','proposed','approved','active','retired')",
            name=op.f("ck_policies_state"),
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_policies_version")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "artifact_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            name=op.f("fk_policies_artifacts"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_policies_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint(
            "tenant_id", "name", "version", name=op.f("uq_policies_tenant_id_name_version")
        ),
    )
    op.create_index(
        "uq_policies_active",
        "policies",
        ["tenant_id", "name"],
        unique=True,
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["jobs.tenant_id", "jobs.id"],
            name=op.f("fk_job_events_jobs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
    )
    op.create_index(op.f("ix_job_events_job_id_id"), "job_events", ["job_id", "id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["jobs.tenant_id", "jobs.id"],
            name=op.f("fk_outbox_jobs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_job_id"), "outbox", ["job_id"], unique=False)
