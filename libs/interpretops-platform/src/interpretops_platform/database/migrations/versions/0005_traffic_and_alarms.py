"""What policies saw of their traffic, and alarms about them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

_APP = "interpretops_app"
_TENANT = "(nullif(current_setting('app.tenant_id', true), ''))::uuid"
_GRANTS = {
    "traffic_windows": "SELECT, INSERT, DELETE, UPDATE (requests, body, updated_at)",
    "alarms": "SELECT, INSERT, UPDATE (problem, body, acknowledged_at, acknowledged_by, note,"
    " closed_at)",
}


def upgrade() -> None:
    """Make the tables."""
    op.create_unique_constraint("uq_policies_tenant_id_id", "policies", ["tenant_id", "id"])
    op.create_table(
        "traffic_windows",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("policy_id", sa.Text(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("requests >= 0", name=op.f("ck_traffic_windows_requests")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "policy_id"],
            ["policies.tenant_id", "policies.id"],
            name=op.f("fk_traffic_windows_policies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "policy_id", "hour", "replica", name=op.f("pk_traffic_windows")
        ),
    )
    op.create_index("ix_traffic_windows_tenant_id_hour", "traffic_windows", ["tenant_id", "hour"])
    op.create_table(
        "alarms",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("policy_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "opened_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('drift','evidence_expired','canary_missed')", name=op.f("ck_alarms_kind")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_alarms_tenants")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "policy_id"],
            ["policies.tenant_id", "policies.id"],
            name=op.f("fk_alarms_policies"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
    op.create_index(
        "uq_alarms_open",
        "alarms",
        ["tenant_id", "policy_id", "kind"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("ix_alarms_tenant_id_opened_at_id", "alarms", ["tenant_id", "opened_at", "id"])
    for table, privileges in _GRANTS.items():
        op.execute(f"GRANT {privileges} ON {table} TO {_APP}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY one_tenant ON {table} TO {_APP}"
            f" USING (tenant_id = {_TENANT}) WITH CHECK (tenant_id = {_TENANT})"
        )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("alarms")
    op.drop_table("traffic_windows")
    op.drop_constraint("uq_policies_tenant_id_id", "policies")
