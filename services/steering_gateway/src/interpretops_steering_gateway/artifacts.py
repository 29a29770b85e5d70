"""The artifacts of tenants as the engine opens them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from interpretops_platform.database.session import tenant_session
from interpretops_platform.tenants import TenantStores
from interpretops_service.engine.store import PlatformStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from interpretops_platform.database.engine import Database
    from interpretops_platform.settings import Settings
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


class TenantArtifacts:
    """Opens the artifacts of a tenant.

    Args:
        settings: Where objects are, and where copies are kept on this machine.
        database: Pools of this process.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._stores = TenantStores(settings)
        self._cache = settings.cache.dir / "tenants"
        # Plain copies of sealed objects go with this process.
        self._passing = tempfile.TemporaryDirectory(prefix="interpretops-steering-")

    async def open(self, tenant_id: UUID) -> PlatformStore:
        """The artifacts of a tenant; to be used in a thread other than the event loop's."""
        async with tenant_session(self._database, tenant_id) as session:
            objects = await self._stores.open(session)
        loop = asyncio.get_running_loop()

        def in_session(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
            async def run() -> T:
                async with tenant_session(self._database, tenant_id) as session:
                    return await work(session)

            return asyncio.run_coroutine_threadsafe(run(), loop).result()

        passing = Path(self._passing.name) / str(tenant_id)
        kept = passing / "kept" if objects.sealed else self._cache / str(tenant_id)
        return PlatformStore(passing / "work", kept, objects=objects, in_session=in_session)

    def close(self) -> None:
        """Remove what was kept for this process alone."""
        self._passing.cleanup()
