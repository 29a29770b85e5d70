"""Who may count jobs in order to start workers, and that services may ask how new the schema is."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_APP = "interpretops_app"
_SYSTEM = "interpretops_system"
_SCALER = "interpretops_scaler"


def upgrade() -> None:
    """Make the role of the autoscaler, which sees that a job of a kind is unfinished, and no more."""
    op.execute(
        f"""
        DO $$ BEGIN
          CREATE ROLE {_SCALER} NOLOGIN NOSUPERUSER NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object THEN NULL;
        END $$
        """
    )
    # No tenant, no spec, no name: the column `state` tells nothing of whose it is.
    op.execute(f"GRANT SELECT (kind, state, finished_at) ON jobs TO {_SCALER}")
    op.execute(
        f"CREATE POLICY unfinished ON jobs FOR SELECT TO {_SCALER} USING (finished_at IS NULL)"
    )
    op.execute(f"GRANT SELECT ON alembic_version TO {_APP}, {_SYSTEM}")


def downgrade() -> None:
    """Take it away again."""
    op.execute(f"REVOKE SELECT ON alembic_version FROM {_APP}, {_SYSTEM}")
    op.execute("DROP POLICY unfinished ON jobs")
    op.execute(f"REVOKE ALL ON jobs FROM {_SCALER}")
    op.execute(
        f"""
        DO $$ BEGIN
          DROP ROLE {_SCALER};
        EXCEPTION WHEN dependent_objects_still_exist OR object_in_use THEN NULL;
        END $$
        """
    )
