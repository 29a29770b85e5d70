"""Backup and restore of an installation: its rows and its objects, never its keys.

A backup is a folder: `database.dump` (made by `pg_dump`), `objects/` (blobs as they lie in the store,
sealed where they are sealed), and `backup.json`, which comes last, so that a folder without it is no
backup. The wrapped data keys of tenants are rows; the master key that opens them, the pepper and the
identity keys are files of the installation and are kept elsewhere: whoever finds a backup reads nothing.

The order makes it consistent while everything runs. An upload writes objects before the row that points
to them, and retention deletes rows before objects. So the rows are taken first, in one snapshot, and the
objects after them, while retention is held: every object that a row of the snapshot points to was there
before and is there still. What is copied besides is of later uploads; retention collects it after a
restore.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import select, text

from interpretops_platform import audit
from interpretops_platform.anchors import verify_anchored
from interpretops_platform.audit import INSTALLATION
from interpretops_platform.database.engine import create_migration_engine
from interpretops_platform.database.leader import alone
from interpretops_platform.database.models import Artifact
from interpretops_platform.database.session import tenant_session
from interpretops_platform.embedded import postgres_program
from interpretops_platform.errors import PlatformError
from interpretops_platform.objects.file import FileBlobs
from interpretops_platform.objects.store import ObjectRef, create_blobs
from interpretops_platform.retention import LOCK
from interpretops_platform.settings import APP_ROLE, SCALER_ROLE, SYSTEM_ROLE
from interpretops_platform.tenants import TenantStores, list_tenants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection

    from interpretops_platform.database.engine import Database
    from interpretops_platform.objects.blobs import Blobs
    from interpretops_platform.objects.store import ObjectStore
    from interpretops_platform.settings import Settings

_DUMP, _OBJECTS, _SUMMARY = "database.dump", "objects", "backup.json"
_PIECE = 1 << 20
_RETENTION_SECONDS = 600.0


class BackupError(PlatformError):
    """A backup cannot be made or restored."""


class Summary(BaseModel):
    """What a backup says of itself.

    Attributes:
        made_at: When its rows were taken.
        revision: The revision of the schema.
        store: Where the objects lay; addresses in rows begin so.
        dump_sha256: Digest of the rows.
        objects: How many objects.
        bytes: Their bytes, as they are kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    made_at: datetime
    revision: str
    store: str
    dump_sha256: str
    objects: int
    bytes: int


class Checked(NamedTuple):
    """What was read and found right after a restore.

    Attributes:
        tenants: How many tenants, with their audit logs.
        artifacts: How many artifacts.
        files: How many of their files, opened and compared with their digests.
        bytes: Plain bytes of those files.
    """

    tenants: int
    artifacts: int
    files: int
    bytes: int


async def back_up(
    settings: Settings, database: Database, folder: Path, say: Callable[[str], None]
) -> Summary:
    """Write a backup into a new folder, while everything runs.

    Args:
        settings: Of the installation; the owner of its tables among them.
        database: Pools with both logins.
        folder: Where to; it must not be there.
        say: Told what is being done.

    Raises:
        BackupError: When the folder is there, or the database cannot be dumped by this owner.
        PlatformError: When something does not answer.
    """
    if folder.exists():
        raise BackupError(f"{folder} is there already", fix="name a folder that is not")
    owner = settings.owner_url()
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    say("waiting for retention to end")
    async with asyncio.timeout(_RETENTION_SECONDS):
        while True:
            async with alone(database, LOCK) as ours:
                if ours:
                    summary = await _write(settings, database, owner, part, say)
                    break
            await asyncio.sleep(1)
    part.rename(folder)
    return summary


async def _write(
    settings: Settings, database: Database, owner: URL, part: Path, say: Callable[[str], None]
) -> Summary:
    engine = create_migration_engine(owner, settings.database)
    try:
        async with engine.connect() as connection:
            await _require_all_rows(connection)
            revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    finally:
        await engine.dispose()
    made_at = datetime.now(UTC)
    say("taking the rows")
    dump = part / _DUMP
    await _run(owner, "pg_dump", "--format=custom", "--no-owner", f"--file={dump}")
    blobs = create_blobs(settings)
    tenants = [entry for entry in await list_tenants(database) if entry.shredded_at is None]
    count = size = 0
    for number, tenant in enumerate(tenants, 1):
        say(f"copying objects: tenant {number} of {len(tenants)}")
        copied = await asyncio.to_thread(_copy, blobs, FileBlobs(part / _OBJECTS), tenant.id)
        count, size = count + copied[0], size + copied[1]
    summary = Summary(
        made_at=made_at,
        revision=str(revision),
        store=_base(blobs),
        dump_sha256=_sha256(dump),
        objects=count,
        bytes=size,
    )
    (part / _SUMMARY).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return summary


async def restore(
    settings: Settings, database: Database, folder: Path, say: Callable[[str], None]
) -> tuple[Summary, Checked]:
    """Bring an empty installation to what a backup holds, and read all of it to prove that it opens.

    Objects come first, so that no row ever points to nothing, then the rows in one transaction: a restore
    that was interrupted before its end is run again. Jobs that were running begin anew.

    Args:
        settings: Of the installation; its database has no tables.
        database: Pools with both logins, which need not work before the rows are there.
        folder: From `back_up`.
        say: Told what is being done.

    Raises:
        BackupError: When the folder is no whole backup, or the database is not empty.
        AuditBrokenError: When the log in the backup is not the one that was written.
        SealBrokenError: When the master key is another one.
    """
    from interpretops_platform.__main__ import migrate_database

    summary = _read_summary(folder)
    owner = settings.owner_url()
    engine = create_migration_engine(owner, settings.database)
    blobs = create_blobs(settings)
    try:
        async with engine.begin() as connection:
            await _require_empty(connection)
            await _require_all_rows(connection)
            await _make_roles(connection)
        say(f"copying {summary.objects} objects")
        source = FileBlobs(folder / _OBJECTS)
        ids = [path.name for path in sorted((folder / _OBJECTS).glob("*")) if path.is_dir()]
        for tenant_id in ids:
            await asyncio.to_thread(_copy, source, blobs, tenant_id)
        say("writing the rows")
        arguments = ("--single-transaction", "--exit-on-error", "--no-owner", str(folder / _DUMP))
        await _run(owner, "pg_restore", *arguments, database_option=True)
        await migrate_database(settings)
        async with engine.begin() as connection:
            await _move_addresses(connection, summary.store, _base(blobs))
    finally:
        await engine.dispose()
    say("reading everything")
    checked = await check(settings, database)
    for tenant in await list_tenants(database):
        async with tenant_session(database, tenant.id) as session:
            await audit.append(
                session,
                tenant.id,
                actor=INSTALLATION,
                action="installation.restore",
                target=summary.made_at.isoformat(timespec="seconds"),
                body={"objects": summary.objects, "rows_sha256": summary.dump_sha256},
            )
    return summary, checked


async def check(settings: Settings, database: Database) -> Checked:
    """Walk every audit log, and read every file of every artifact of every tenant.

    Raises:
        AuditBrokenError: Where a log is not the one that was written.
        PlatformError: Where a file is missing, was changed or does not open.
    """
    stores = TenantStores(settings)
    total = Checked(0, 0, 0, 0)
    for tenant in await list_tenants(database):
        await verify_anchored(database, tenant.id, None)
        if tenant.shredded_at is not None:
            total = total._replace(tenants=total.tenants + 1)
            continue
        async with tenant_session(database, tenant.id) as session:
            store = await stores.open(session)
            manifests = (await session.scalars(select(Artifact.manifest))).all()
        files = {file["sha256"]: file for manifest in manifests for file in manifest["files"]}
        refs = [
            store.ref(each["sha256"], each["size"], each["media_type"]) for each in files.values()
        ]
        size = await asyncio.to_thread(_read_all, store, refs)
        total = Checked(
            total.tenants + 1,
            total.artifacts + len(manifests),
            total.files + len(refs),
            total.bytes + size,
        )
    return total


def _read_all(store: ObjectStore, refs: Sequence[ObjectRef]) -> int:
    return sum(len(piece) for ref in refs for piece in store.pieces(ref))


def _copy(source: Blobs, target: Blobs, tenant_id: UUID | str) -> tuple[int, int]:
    """Copy the blobs of a tenant that the target lacks; count all of them."""
    count = size = 0
    for entry in source.entries(f"{tenant_id}/"):
        if Path(entry.key).name.startswith("."):
            continue  # what is left of a write that was cut off
        count, size = count + 1, size + entry.size
        if target.written_at(entry.key) is not None:
            continue
        with source.read(entry.key) as content, tempfile.NamedTemporaryFile() as work:
            shutil.copyfileobj(content, work, _PIECE)
            work.flush()
            target.write(entry.key, Path(work.name))
    return count, size


def _read_summary(folder: Path) -> Summary:
    try:
        summary = Summary.model_validate_json((folder / _SUMMARY).read_bytes())
    except (OSError, ValidationError):
        raise BackupError(
            f"{folder} is no backup", fix="name a folder that `mechctl backup` wrote to its end"
        ) from None
    if summary.version != 1:
        raise BackupError("a newer version made this backup", fix="restore it with that version")
    found = sum(1 for path in (folder / _OBJECTS).rglob("*") if path.is_file())
    if _sha256(folder / _DUMP) != summary.dump_sha256 or found != summary.objects:
        raise BackupError(f"{folder} was changed or is not whole", fix="take another copy of it")
    return summary


async def _require_all_rows(connection: AsyncConnection) -> None:
    """Row-level security binds the owner too, so that a dump by it would hold nothing."""
    sees_all = await connection.scalar(
        text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    )
    if not sees_all:
        raise BackupError(
            "the owner of the database may not see the rows of tenants",
            fix="name a superuser in database.owner_dsn, or use the snapshots of whoever runs it",
        )


async def _require_empty(connection: AsyncConnection) -> None:
    tables = await connection.scalar(
        text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    )
    if tables:
        raise BackupError("the database is not empty", fix="restore into a new one")


async def _make_roles(connection: AsyncConnection) -> None:
    """The roles that rows are granted to; they belong to the server and stand in no dump."""
    for role in (APP_ROLE, SYSTEM_ROLE, SCALER_ROLE):
        await connection.execute(
            text(
                f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS;"
                " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            )
        )


async def _move_addresses(connection: AsyncConnection, before: str, now: str) -> None:
    """Have rows name objects where they are now."""
    where = {"before": before, "now": now}
    if before != now:
        await connection.execute(
            text(
                "UPDATE artifacts SET object_uri = :now || substr(object_uri, length(:before) + 1)"
                " WHERE starts_with(object_uri, :before)"
            ),
            where,
        )
        await connection.execute(
            text(
                "UPDATE jobs SET inputs = replace(inputs::text, :before, :now)::jsonb"
                " WHERE finished_at IS NULL AND position(:before in inputs::text) > 0"
            ),
            where,
        )
    # A checkpoint is a list of addresses, sealed; and what it names may be of a moment after the rows.
    await connection.execute(text("UPDATE jobs SET checkpoint_uri = NULL"))


async def _run(owner: URL, program: str, *arguments: str, database_option: bool = False) -> None:
    """Run a program of PostgreSQL against the database of this address.

    Raises:
        BackupError: When it fails; the message holds the last of what it said.
    """
    name = owner.database or "postgres"
    where = [f"--host={owner.host}", f"--port={owner.port or 5432}", f"--username={owner.username}"]
    where.append(f"--dbname={name}" if database_option else name)
    process = await asyncio.create_subprocess_exec(
        postgres_program(program),
        *([] if database_option else arguments),
        *where,
        *(arguments if database_option else []),
        env={**os.environ, "PGPASSWORD": owner.password or ""},  # not for everybody to see in `ps`
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        last = said.decode(errors="replace").strip()[-400:]
        raise BackupError(f"{program} failed: {last}", fix="see what the database's log says")


def _base(blobs: Blobs) -> str:
    """What every address of these blobs begins with."""
    return blobs.uri("x")[:-1]


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
