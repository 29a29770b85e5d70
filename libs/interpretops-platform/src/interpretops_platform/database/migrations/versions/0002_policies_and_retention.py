"""A policy's model and revision, and what retention and shredding may delete."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_APP = "interpretops_app"
_SYSTEM = "interpretops_system"

_SHREDDED = "EXISTS (SELECT FROM tenants WHERE id = tenant_id AND shredded_at IS NOT NULL)"
# The app role may delete these rows, but only those that nothing can need any more.
_DELETABLE = {
    "jobs": f"finished_at IS NOT NULL OR {_SHREDDED}",
    "policies": _SHREDDED,
    "api_keys": _SHREDDED,
}


def upgrade() -> None:
    """Add the columns, the indexes and the rights."""
    op.add_column("tenants", sa.Column("shredded_at", sa.DateTime(timezone=True)))
    op.execute(f"GRANT UPDATE (shredded_at) ON tenants TO {_APP}")
    op.execute(f"GRANT SELECT (shredded_at) ON tenants TO {_SYSTEM}")

    op.add_column(
        "policies", sa.Column("model", sa.Text(), server_default="unknown", nullable=False)
    )
    op.alter_column("policies", "model", server_default=None)
    op.add_column(
        "policies", sa.Column("revision", sa.Integer(), server_default="1", nullable=False)
    )
    op.add_column("policies", sa.Column("retired_at", sa.DateTime(timezone=True)))
    op.create_index("ix_policies_tenant_id_artifact_id", "policies", ["tenant_id", "artifact_id"])
    op.execute(f"REVOKE UPDATE (yaml) ON policies FROM {_APP}")
    op.execute(f"GRANT UPDATE (revision, retired_at) ON policies TO {_APP}")

    op.create_index(
        "ix_jobs_unfinished",
        "jobs",
        ["kind", "state"],
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("ix_jobs_tenant_id_finished_at", "jobs", ["tenant_id", "finished_at"])
    op.create_index(
        "ix_jobs_tenant_id_result_artifact_id", "jobs", ["tenant_id", "result_artifact_id"]
    )
    for table, condition in _DELETABLE.items():
        op.execute(f"GRANT DELETE ON {table} TO {_APP}")
        op.execute(
            f"CREATE POLICY deletable ON {table} AS RESTRICTIVE FOR DELETE TO {_APP}"
            f" USING ({condition})"
        )


def downgrade() -> None:
    """Take them away again."""
    for table in _DELETABLE:
        op.execute(f"DROP POLICY deletable ON {table}")
        op.execute(f"REVOKE DELETE ON {table} FROM {_APP}")
    for index in (
        "ix_jobs_tenant_id_result_artifact_id",
        "ix_jobs_tenant_id_finished_at",
        "ix_jobs_unfinished",
    ):
        op.drop_index(index, "jobs")
    op.execute(f"GRANT UPDATE (yaml) ON policies TO {_APP}")
    op.drop_index("ix_policies_tenant_id_artifact_id", "policies")
    for column in ("retired_at", "revision", "model"):
        op.drop_column("policies", column)
    op.drop_column("tenants", "shredded_at")
