"""Tenants and the keys of their objects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from interpretops_platform import audit
from interpretops_platform.audit import INSTALLATION
from interpretops_platform.database.models import Tenant
from interpretops_platform.database.session import system_session, tenant_session
from interpretops_platform.errors import NotFoundError, PlatformError, SettingsError
from interpretops_platform.objects.sealed import FileMasterKey, MasterKey, Seal, new_data_key
from interpretops_platform.objects.store import ObjectStore, create_blobs
from interpretops_platform.retention import delete_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from interpretops_platform.database.engine import Database
    from interpretops_platform.objects.blobs import Blobs
    from interpretops_platform.retention import Deleted
    from interpretops_platform.settings import Settings

_MAX_NAME = 200


class TenantShreddedError(PlatformError):
    """The key of the tenant's objects was deleted, and with it all they held."""

    def __init__(self) -> None:
        super().__init__("the objects of this tenant were shredded", fix="make a new tenant")


class TenantEntry(NamedTuple):
    """What an operator of the installation sees of a tenant."""

    id: UUID
    name: str
    created_at: datetime
    shredded_at: datetime | None


def open_master_key(settings: Settings) -> MasterKey | None:
    """What wraps the data keys of tenants; none where objects are not sealed.

    Raises:
        SettingsError: When it is set up in a way that cannot work.
    """
    security = settings.security
    path = security.master_key_file
    file = None if path is None else FileMasterKey.from_file(path)
    if security.master_key_kms is None:
        return file
    from interpretops_platform.objects.kms import KmsMasterKey

    return KmsMasterKey(security.master_key_kms, before=file)


async def create_tenant(
    database: Database, name: str, master_key: MasterKey | None, *, actor: str = INSTALLATION
) -> UUID:
    """Make a tenant, with a data key of its own where there is a master key to wrap it.

    Args:
        database: Pools with both logins.
        name: 1 to 200 printable characters.
        master_key: From `open_master_key`.
        actor: Who did it, for the audit log.

    Raises:
        PlatformError: When the name is taken or unusable.
    """
    if not name.isprintable() or not 0 < len(name.strip()) <= _MAX_NAME:
        raise PlatformError(
            "the name of a tenant is empty, too long or holds unusual characters",
            fix=f"use 1 to {_MAX_NAME} printable characters",
        )
    tenant_id = uuid4()
    wrapped = None
    if master_key is not None:
        wrapped = await asyncio.to_thread(master_key.wrap, new_data_key(), tenant_id)
    values = {"id": tenant_id, "name": name, "wrapped_data_key": wrapped}
    try:
        async with system_session(database) as session:
            await session.execute(insert(Tenant).inline().values(values))
    except IntegrityError:
        raise PlatformError(
            f"there is a tenant named {name!r} already", fix="choose another name"
        ) from None
    async with tenant_session(database, tenant_id) as session:
        body = {"sealed": wrapped is not None}
        await audit.append(
            session, tenant_id, actor=actor, action="tenant.create", target=name, body=body
        )
    return tenant_id


async def list_tenants(database: Database) -> Sequence[TenantEntry]:
    """All tenants, by name."""
    statement = select(Tenant.id, Tenant.name, Tenant.created_at, Tenant.shredded_at)
    async with system_session(database) as session:
        rows = await session.execute(statement.order_by(Tenant.name))
        return [TenantEntry(*row) for row in rows]


async def find_tenant(database: Database, name_or_id: str) -> TenantEntry:
    """The tenant of this name or id.

    Raises:
        NotFoundError: When there is none.
    """
    for tenant in await list_tenants(database):
        if name_or_id in (tenant.name, str(tenant.id)):
            return tenant
    raise NotFoundError(f"there is no tenant {name_or_id!r}", fix="list the tenants there are")


async def rewrap_tenants(
    database: Database, master_key: MasterKey, *, actor: str = INSTALLATION
) -> int:
    """Wrap every tenant's data key anew, so that older master keys are needed no longer.

    Objects stay as they are. It may be interrupted and run again.

    Args:
        database: Pools with both logins.
        master_key: Unwraps by every key in use, and wraps by the new one.
        actor: Who did it, for the audit log.

    Returns:
        How many keys were wrapped.

    Raises:
        SealBrokenError: When a key was wrapped by a master key that is not at hand.
    """
    wrapped = 0
    for entry in await list_tenants(database):
        async with tenant_session(database, entry.id) as session:
            tenant = (await session.scalars(select(Tenant).with_for_update())).one()
            if tenant.wrapped_data_key is None:
                continue
            key = await asyncio.to_thread(master_key.unwrap, tenant.wrapped_data_key, tenant.id)
            again = await asyncio.to_thread(master_key.wrap, key, tenant.id)
            await session.execute(update(Tenant).values(wrapped_data_key=again))
            await audit.append(
                session, tenant.id, actor=actor, action="tenant.rewrap", target=tenant.name, body={}
            )
        wrapped += 1
    return wrapped


async def shred_tenant(session: AsyncSession, *, actor: str) -> Deleted:
    """Delete the data key of the session's tenant, and its rows: no copy of its objects opens again.

    What remains is the tenant's name and its audit log. Its objects are deleted by retention.

    Args:
        session: A `tenant_session`.
        actor: Who did it, for the audit log.
    """
    tenant = (await session.scalars(select(Tenant).with_for_update())).one()
    values = {
        "wrapped_data_key": None,
        "shredded_at": func.coalesce(Tenant.shredded_at, func.clock_timestamp()),
    }
    await session.execute(update(Tenant).values(values), execution_options=_PLAIN)
    deleted = await delete_rows(session)
    await audit.append(
        session,
        tenant.id,
        actor=actor,
        action="tenant.shred",
        target=tenant.name,
        body=deleted.as_body(),
    )
    return deleted


_PLAIN = {"synchronize_session": False}


class TenantStores:
    """Opens the object store of a tenant.

    Args:
        settings: Where objects are kept, and whether they are sealed.

    Raises:
        SettingsError: When the store or the master key is set up in a way that cannot work.
    """

    def __init__(self, settings: Settings) -> None:
        self.master_key = open_master_key(settings)
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
        if tenant.shredded_at is not None:
            raise TenantShreddedError
        wrapped = tenant.wrapped_data_key
        if wrapped is None:  # made before there was a master key
            return self.unsealed(tenant.id)
        if self.master_key is None:
            raise SettingsError(
                "the objects of this tenant are sealed and there is no master key",
                fix="set security.master_key_file or security.master_key_kms",
            )
        data_key = await asyncio.to_thread(self.master_key.unwrap, wrapped, tenant.id)
        seal = Seal(data_key, tenant.id)
        return ObjectStore(self._blobs, tenant.id, cache=self._cache, seal=seal)

    def unsealed(self, tenant_id: UUID) -> ObjectStore:
        """The objects of a tenant as they lie, to list them and to delete them."""
        return ObjectStore(self._blobs, tenant_id, cache=self._cache)
