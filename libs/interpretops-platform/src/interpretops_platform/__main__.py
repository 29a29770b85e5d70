"""`python -m interpretops_platform`: what every installation runs beside its services."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from interpretops_platform.anchors import AnchorMetrics, keep_anchoring, open_anchors
from interpretops_platform.database import migrate
from interpretops_platform.database.engine import Database, create_migration_engine
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import PlatformError, SettingsError
from interpretops_platform.evidence import EvidenceMetrics, keep_evidence, look
from interpretops_platform.health import is_healthy
from interpretops_platform.jobs.broker import CeleryBroker, create_celery
from interpretops_platform.jobs.keeper import keep_jobs_moving
from interpretops_platform.jobs.observe import QueueMetrics
from interpretops_platform.retention import keep_retaining, retain
from interpretops_platform.security.key_store import issue_key
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import Role
from interpretops_platform.settings import APP_ROLE, SCALER_ROLE, SYSTEM_ROLE, load_settings
from interpretops_platform.telemetry.logs import configure_logging
from interpretops_platform.telemetry.metrics import Metrics
from interpretops_platform.tenants import TenantStores, create_tenant, open_master_key

if TYPE_CHECKING:
    from interpretops_platform.settings import Settings


async def migrate_database(settings: Settings) -> None:
    """Bring the database up to this version, and let its roles log in with the set passwords.

    Raises:
        SettingsError: When no owner is configured.
    """
    engine = create_migration_engine(settings.owner_url(), settings.database)
    try:
        await migrate.upgrade(engine)
        passwords = {
            role: password.get_secret_value()
            for role, password in (
                (APP_ROLE, settings.database.app_password),
                (SYSTEM_ROLE, settings.database.system_password),
                (SCALER_ROLE, settings.database.scaler_password),
            )
            if password is not None
        }
        await migrate.set_passwords(engine, passwords)
    finally:
        await engine.dispose()


async def prepare(settings: Settings) -> None:
    """Bring the database up to this version, and make the bucket where one is named and missing.

    Raises:
        PlatformError: When either is set up in a way that cannot work, or does not answer.
    """
    await migrate_database(settings)
    if settings.object_settings().bucket is not None:
        from interpretops_platform.objects.s3 import S3Blobs

        await asyncio.to_thread(S3Blobs(settings.object_settings()).ensure_bucket)


async def wait_for_schema(settings: Settings) -> None:
    """Wait until the database has the schema of this version, or that of a newer one.

    Raises:
        SettingsError: When the app role has no way to log in.
    """
    engine = create_migration_engine(settings.app_url(), settings.database)
    try:
        await migrate.wait_until_current(engine)
    finally:
        await engine.dispose()


async def found(settings: Settings, name: str) -> None:
    """Make a tenant with a first key for its admin, and print that key.

    Raises:
        PlatformError: When there is such a tenant, or no pepper to hash keys with.
    """
    pepper_file = settings.security.pepper_file
    if pepper_file is None:
        raise SettingsError("API keys are not set up", fix="set security.pepper_file")
    peppers = Peppers.from_file(pepper_file)
    database = Database(settings, name="interpretops-found")
    try:
        tenant_id = await create_tenant(database, name, open_master_key(settings))
        async with tenant_session(database, tenant_id) as session:
            issued = await issue_key(
                session, tenant_id, name="admin", roles=[Role.ADMIN], peppers=peppers
            )
    finally:
        await database.close()
    print(issued.token.text)


async def keep(settings: Settings) -> None:
    """Keep jobs moving and evidence fresh, delete what has had its time, anchor audit logs: until SIGTERM.

    Raises:
        SettingsError: When a role has no way to log in, or the object store cannot be opened.
    """
    settings.system_url()  # what is missing is said here, not out of a group of tasks
    settings.app_url()
    stores = TenantStores(settings)
    anchors = open_anchors(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    telemetry = settings.telemetry
    configure_logging("keeper", level=telemetry.log_level)
    metrics = Metrics.of_process()
    exposition = None
    if telemetry.metrics_port is not None:
        exposition = metrics.expose(telemetry.metrics_host, telemetry.metrics_port)
    queues = QueueMetrics(metrics, settings.jobs.kinds)
    evidence = EvidenceMetrics(metrics)
    database = Database(settings, name="interpretops-keeper")
    try:
        broker = CeleryBroker(create_celery(settings))
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_jobs_moving(database, broker, settings.jobs, stop, queues))
            group.create_task(keep_retaining(database, stores, settings.compliance, stop))
            group.create_task(keep_evidence(database, settings, stop, evidence))
            if anchors is not None:
                shown = AnchorMetrics(metrics)
                group.create_task(keep_anchoring(database, anchors, settings.audit, stop, shown))
    finally:
        if exposition is not None:
            exposition.close()
        await database.close()


async def retain_once(settings: Settings) -> None:
    """Delete what has had its time, now.

    Raises:
        PlatformError: When a role has no way to log in, or objects cannot be reached.
    """
    database = Database(settings, name="interpretops-retain")
    try:
        deleted = await retain(database, TenantStores(settings), settings.compliance.retention)
    finally:
        await database.close()
    print("another process is at it" if deleted is None else f"deleted {deleted}")


async def nightly_once(settings: Settings) -> None:
    """Submit the canaries of active policies and raise alarms about their evidence, now.

    Raises:
        PlatformError: When a role has no way to log in.
    """
    database = Database(settings, name="interpretops-nightly")
    try:
        seen = await look(database, settings, canaries=True)
    finally:
        await database.close()
    alarms = sum(seen.alarms.values())
    print(
        f"{seen.active} active policies, {seen.canaries} canaries submitted, {alarms} open alarms"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0; 1 where a program is not healthy; 2 when the installation is set up in a way
        that cannot work.
    """
    commands = {
        "migrate": migrate_database,
        "prepare": prepare,
        "wait": wait_for_schema,
        "keep": keep,
        "retain": retain_once,
        "nightly": nightly_once,
    }
    parser = argparse.ArgumentParser(prog="python -m interpretops_platform")
    chosen_command = parser.add_subparsers(dest="command", required=True)
    for name, run in commands.items():
        chosen_command.add_parser(name, help=(run.__doc__ or "").partition("\n")[0])
    check = chosen_command.add_parser("healthy", help="Whether a program here is ready.")
    check.add_argument("name", help="edge, or a service such as tracer")
    founding = chosen_command.add_parser(
        "found", help="Make a tenant with a first key for its admin, and print that key."
    )
    founding.add_argument("name", help="name of the tenant")
    for command in chosen_command.choices.values():
        command.add_argument("--config", type=Path, help="a config.yaml")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = load_settings(chosen.config)
        if chosen.command == "healthy":
            return 0 if is_healthy(chosen.name, settings) else 1
        if chosen.command == "found":
            asyncio.run(found(settings, chosen.name))
        else:
            asyncio.run(commands[chosen.command](settings))
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
