"""How long pages take with many artifacts: `perf.py` starts a small stack, fills it, and measures.

    python services/dashboard/perf.py [--artifacts 10000]

10,000 rows stand in the database like those of real artifacts; a Chromium signs in and measures each
page's first view (from the address to its content) and the longest of some interactions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from e2e import WEB, TinyStack, tiny_stack
from interpretops_platform.database.engine import Database
from interpretops_platform.database.models import Artifact, ArtifactParent, Tenant
from interpretops_platform.database.session import system_session, tenant_session
from interpretops_platform.settings import load_settings
from sqlalchemy import insert, select
from ulid import ULID

_BATCH = 1000


async def fill(stack: TinyStack, wanted: int) -> None:
    """Put copies of the stack's own artifacts beside them, each under an id of its own."""
    settings = load_settings(stack.folder / ".io_stack" / "config.yaml")
    database = Database(settings, name="perf")
    try:
        async with system_session(database) as session:
            tenant = await session.scalar(select(Tenant.id).where(Tenant.name == "default"))
        assert tenant is not None
        async with tenant_session(database, tenant) as session:
            columns = Artifact.__table__.columns.keys()
            rows = [
                {name: getattr(row, name) for name in columns}
                for row in await session.scalars(select(Artifact))
            ]
        now = datetime.now(UTC)
        for start in range(0, wanted, _BATCH):
            made, edges = [], []
            for number in range(start, min(start + _BATCH, wanted)):
                row = rows[number % len(rows)]
                prefix = row["id"].split("_")[0]
                at = now - timedelta(minutes=number)
                copy = f"{prefix}_{ULID.from_datetime(at)}"
                manifest = {**row["manifest"], "id": copy}
                made.append({**row, "id": copy, "manifest": manifest, "created_at": at})
                edges += [
                    {"tenant_id": tenant, "artifact_id": copy, "parent_id": parent}
                    for parent in row["manifest"]["parents"]
                ]
            async with tenant_session(database, tenant) as session:
                await session.execute(insert(Artifact).inline(), made)
                await session.execute(insert(ArtifactParent).inline(), edges)
    finally:
        await database.close()


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=10_000)
    wanted: int = parser.parse_args().artifacts
    with tiny_stack() as stack:
        asyncio.run(fill(stack, wanted))
        facts = stack.folder / "perf.json"
        facts.write_text(json.dumps(stack.facts))
        command = ["node", str(Path("perf") / "pages.mjs")]
        environment = {**os.environ, "INTERPRETOPS_E2E": str(facts)}
        return subprocess.run(command, cwd=WEB, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
