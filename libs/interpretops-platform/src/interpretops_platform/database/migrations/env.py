"""Alembic's entry point; `interpretops_platform.database.migrate` hands it the connection."""

from __future__ import annotations

from alembic import context
from interpretops_platform.database.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
