"""Names that people give to artifacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_APP = "interpretops_app"
_TENANT = "(nullif(current_setting('app.tenant_id', true), ''))::uuid"
_TABLE = "artifact_names"


def upgrade() -> None:
    """Make the table; a name goes with the artifact it stands for."""
    op.create_table(
        _TABLE,
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="pk_artifact_names"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "artifact_id"],
            ["artifacts.tenant_id", "artifacts.id"],
            name="fk_artifact_names_artifacts",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_artifact_names_tenant_id_artifact_id", _TABLE, ["tenant_id", "artifact_id"])
    op.execute(
        f"GRANT SELECT, INSERT, DELETE, UPDATE (artifact_id, author, updated_at) ON {_TABLE} TO {_APP}"
    )
    op.execute(f"ALTER TABLE {_TABLE} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {_TABLE} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY one_tenant ON {_TABLE} TO {_APP}"
        f" USING (tenant_id = {_TENANT}) WITH CHECK (tenant_id = {_TENANT})"
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table(_TABLE)
