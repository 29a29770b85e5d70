"""What people write about circuits and features."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

_APP = "interpretops_app"
_TENANT = "(nullif(current_setting('app.tenant_id', true), ''))::uuid"
_GRANTS = {
    "circuit_annotations": "SELECT, INSERT, UPDATE (body, revision, author, updated_at)",
    "feature_labels": "SELECT, INSERT, UPDATE (label, revision, author, updated_at)",
}


def upgrade() -> None:
    """Make both tables; their rows go with the artifact they are about."""
    op.create_table(
        "circuit_annotations",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("body", JSONB(), nullable=False),
        *_changes(),
        sa.PrimaryKeyConstraint("tenant_id", "artifact_id", name="pk_circuit_annotations"),
        _reference("circuit_annotations", "artifact_id"),
    )
    op.create_table(
        "feature_labels",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("dictionary_id", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        *_changes(),
        sa.PrimaryKeyConstraint(
            "tenant_id", "dictionary_id", "site", "feature", name="pk_feature_labels"
        ),
        _reference("feature_labels", "dictionary_id"),
        sa.CheckConstraint("feature >= 0", name="ck_feature_labels_feature"),
    )
    for table, privileges in _GRANTS.items():
        op.execute(f"GRANT {privileges} ON {table} TO {_APP}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY one_tenant ON {table} TO {_APP}"
            f" USING (tenant_id = {_TENANT}) WITH CHECK (tenant_id = {_TENANT})"
        )


def downgrade() -> None:
    """Drop them."""
    for table in reversed(_GRANTS):
        op.drop_table(table)


def _changes() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
    )


def _reference(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", column],
        ["artifacts.tenant_id", "artifacts.id"],
        name=f"fk_{table}_artifacts",
        ondelete="CASCADE",
    )
