"""Tenants and the keys of their objects."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from interpretops_platform.database.models import Tenant
from interpretops_platform.database.session import system_session
from interpretops_platform.errors import PlatformError, SettingsError
from interpretops_platform.objects.sealed import FileMasterKey, MasterKey, Seal, new_data_key
from interpretops_platform.objects.store import ObjectStore, create_blobs

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database
    from interpretops_platform.objects.blobs import Blobs
    from interpretops_platform.settings import Settings


class TenantShreddedError(PlatformError):
    """The key of the tenant's objects was deleted, and with it all they held."""

    def __init__(self) -> None:
        super().__init__("the objects of this tenant were shredded", fix="make a new tenant")


async def create_tenant(database: Database, name: str, master_key: MasterKey | None) -> UUID:
    """Make a tenant, with a data key of its own where there is a master key to wrap it.

    Raises:
        PlatformError: When the name is taken.
    """
    tenant_id = uuid4()
    wrapped = None if master_key is None else master_key.wrap(new_data_key(), tenant_id)
    values = {"id": tenant_id, "name": name, "wrapped_data_key": wrapped}
    try:
        async with system_session(database) as session:
            await session.execute(insert(Tenant).inline().values(values))
    except IntegrityError:
        raise PlatformError(
            f"there is a tenant named {name!r} already", fix="choose another name"
        ) from None
    return tenant_id


async def shred_tenant(session: AsyncSession) -> None:
    """Delete the data key of the session's tenant: no copy of its objects can be read again."""
    await session.execute(update(Tenant).values(wrapped_data_key=None))


class TenantStores:
    """Opens the object store of a tenant.

    Args:
        settings: Where objects are kept, and whether they are sealed.

    Raises:
        SettingsError: When the store or the master key is set up in a way that cannot work.
    """

    def __init__(self, settings: Settings) -> None:
        path = settings.security.master_key_file
        self.master_key: MasterKey | None = None if path is None else FileMasterKey.from_file(path)
        self._blobs: Blobs = create_blobs(settings)
        self._cache = settings.cache.dir

    async def open(self, session: AsyncSession) -> ObjectStore:
        """The objects of the session's tenant.

        Args:
            session: A `tenant_session`.

        Raises:
            TenantShreddedError: When its key was deleted.
            SettingsError: When its objects are sealed and no master key is configured.
            SealBrokenError: When its key was wrapped by another master key.
        """
        tenant = (await session.scalars(select(Tenant))).one()
        wrapped = tenant.wrapped_data_key
        if self.master_key is None:
            if wrapped is not None:
                raise SettingsError(
                    "the objects of this tenant are sealed and there is no master key",
                    fix="set security.master_key_file",
                )
            return ObjectStore(self._blobs, tenant.id, cache=self._cache)
        if wrapped is None:
            raise TenantShreddedError
        seal = Seal(self.master_key.unwrap(wrapped, tenant.id), tenant.id)
        return ObjectStore(self._blobs, tenant.id, cache=self._cache, seal=seal)
