"""What the first start makes: secrets, settings, a tenant and its keys."""

from __future__ import annotations

import json
import logging
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from interpretops_stack.folder import write_privately
from interpretops_stack.ports import free_port_from, free_ports

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from interpretops_platform.database.engine import Database

    from interpretops_stack.folder import StackFolder

TENANT = "default"
ADMIN, LOCAL = "admin", "local"
"""Names of the keys: of whoever set the stack up, and of commands on this machine."""

DEFAULT_MODEL = "builtin:smollm2-135m-instruct"

SERVICES = (
    "tracer",
    "sae_trainer",
    "circuit_search",
    "steering_gateway",
    "evaluator",
    "reporter",
)


DASHBOARD_AFTER_EDGE = 10
"""How far behind the edge's port the dashboard's is, where that is free."""


class Addresses(NamedTuple):
    """Ports of one run."""

    edge: int
    dashboard: int
    postgres: int
    valkey: int
    services: dict[str, int]
    metrics: dict[str, int]

    @property
    def edge_url(self) -> str:
        """Where the edge answers."""
        return f"http://127.0.0.1:{self.edge}"

    @property
    def dashboard_url(self) -> str:
        """Where people look at it."""
        return f"http://127.0.0.1:{self.dashboard}"


def worker_names(count: int) -> list[str]:
    """What the processes that work on jobs are called."""
    return [f"worker-{number}" if count > 1 else "worker" for number in range(1, count + 1)]


def choose_addresses(folder: StackFolder, edge_port: int, workers: int = 1) -> Addresses:
    """The ports of the last run where they are free, else others."""
    measured = ("keeper", *worker_names(workers), *SERVICES)
    names = ("postgres", "valkey", *SERVICES, *(f"metrics of {name}" for name in measured))
    remembered = folder.secrets / "ports.json"
    before: dict[str, int] = {}
    with suppress(OSError, ValueError):
        before = json.loads(remembered.read_text())
    chosen = free_ports(names, before)
    write_privately(remembered, json.dumps(chosen).encode())
    services = {name: chosen[name] for name in SERVICES}
    metrics = {name: chosen[f"metrics of {name}"] for name in measured}
    dashboard = free_port_from(edge_port + DASHBOARD_AFTER_EDGE)
    return Addresses(edge_port, dashboard, chosen["postgres"], chosen["valkey"], services, metrics)


def write_targets(folder: StackFolder, addresses: Addresses) -> None:
    """Write where each program shows its metrics, as Prometheus reads it (`file_sd_configs`)."""
    ports = {"edge": addresses.edge, **addresses.metrics}
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"job": name.replace("_", "-"), "instance": f"{name}:{port}"},
        }
        for name, port in ports.items()
    ]
    folder.targets.write_text(json.dumps(targets, indent=1))


def write_settings(
    folder: StackFolder, given: Path | None, addresses: Addresses, owner_dsn: str
) -> None:
    """Write the settings of every process: those given, and behind them those of this stack.

    Args:
        folder: Where to write them.
        given: The user's own `config.yaml`; what it says wins.
        addresses: The ports of this run.
        owner_dsn: Address of the embedded database as its owner.
    """
    content = {} if given is None else yaml.safe_load(given.read_text(encoding="utf-8")) or {}
    model = (content.get("model") or {}).get("name") or DEFAULT_MODEL
    passwords = _passwords(folder)
    ours: dict[str, Any] = {
        "model": {"name": model},
        "cache": {"dir": str(folder.path / "cache")},
        "database": {"owner_dsn": owner_dsn, **passwords},
        "redis": {"url": f"redis://127.0.0.1:{addresses.valkey}/0"},
        "objects": {"folder": str(folder.path / "objects")},
        "audit": {"anchor_folder": str(folder.path / "anchors")},
        "security": {
            "master_key_file": str(folder.secrets / "master-key"),
            "pepper_file": str(folder.secrets / "pepper"),
        },
        "grpc": {"identity_keys": str(folder.secrets / "identity-keys")},
        "services": {name: f"dns:///127.0.0.1:{port}" for name, port in addresses.services.items()},
        "edge": {"port": addresses.edge},
        "dashboard": {
            "port": addresses.dashboard,
            "session_key_file": str(folder.secrets / "dashboard-keys"),
        },
    }
    text = yaml.safe_dump(_over(ours, content), sort_keys=False, allow_unicode=True)
    note = (
        "# Written by `mechctl up` at every start; it holds passwords. Change it with --config.\n"
    )
    write_privately(folder.config, (note + text).encode())


def make_secrets(folder: StackFolder) -> None:
    """Make the keys of the installation that are not there yet."""
    from interpretops_platform.security.key_files import create_key_file

    for name in ("identity-keys", "pepper", "master-key", "dashboard-keys"):
        with suppress(FileExistsError):
            create_key_file(folder.secrets / name)


async def prepare(folder: StackFolder, address: str, dashboard: str) -> None:
    """Bring the database up to date, and make the tenant and its keys where they are missing.

    The admin's key is left in a file for `mechctl up`, which shows it and deletes the file.

    Args:
        folder: The stack's folder; the settings stand in it.
        address: Where the edge will answer.
        dashboard: Where the dashboard will.

    Raises:
        PlatformError: When the database cannot be migrated or the keys cannot be read.
    """
    from interpretops_platform.__main__ import migrate_database
    from interpretops_platform.database.engine import Database
    from interpretops_platform.settings import load_settings
    from interpretops_platform.tenants import create_tenant, open_master_key

    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    settings = load_settings(folder.config)
    await migrate_database(settings)
    database = Database(settings, name="interpretops-stack")
    try:
        tenant_id = await _tenant_id(database)
        if tenant_id is None:
            tenant_id = await create_tenant(database, TENANT, open_master_key(settings))
        await _make_keys(folder, database, tenant_id, settings.security.pepper_file)
        profile = json.loads(folder.profile.read_text())
        write_privately(
            folder.profile, json.dumps({**profile, "api": address, "dashboard": dashboard}).encode()
        )
    finally:
        await database.close()


async def _tenant_id(database: Database) -> UUID | None:
    from interpretops_platform.database.models import Tenant
    from interpretops_platform.database.session import system_session
    from sqlalchemy import select

    async with system_session(database) as session:
        found: UUID | None = await session.scalar(select(Tenant.id).where(Tenant.name == TENANT))
    return found


async def _make_keys(
    folder: StackFolder, database: Database, tenant_id: UUID, pepper_file: Path | None
) -> None:
    from interpretops_platform.database.models import ApiKey
    from interpretops_platform.database.session import tenant_session
    from interpretops_platform.errors import SettingsError
    from interpretops_platform.security.key_store import issue_key
    from interpretops_platform.security.peppers import Peppers
    from interpretops_platform.security.principal import Role
    from sqlalchemy import select

    if pepper_file is None:
        raise SettingsError("API keys need a pepper", fix="set security.pepper_file")
    peppers = Peppers.from_file(pepper_file)
    wanted = {ADMIN: Role.ADMIN, LOCAL: Role.OPERATOR}
    async with tenant_session(database, tenant_id) as session:
        names = set(await session.scalars(select(ApiKey.name)))
        if not folder.profile.exists():
            names.discard(LOCAL)
        for name in wanted.keys() - names:
            made = await issue_key(
                session, tenant_id, name=name, roles=[wanted[name]], peppers=peppers
            )
            # Before the commit: a key whose row is missing is made anew, one nobody saw is lost.
            if name == ADMIN:
                write_privately(folder.admin_key, made.token.text.encode())
            else:
                write_privately(folder.profile, json.dumps({"key": made.token.text}).encode())


def _passwords(folder: StackFolder) -> dict[str, str]:
    path = folder.secrets / "database-passwords.json"
    if not path.exists():
        made = {f"{role}_password": secrets.token_urlsafe(24) for role in ("app", "system")}
        write_privately(path, json.dumps(made).encode())
    passwords: dict[str, str] = json.loads(path.read_text())
    return passwords


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; where both say something, the upper one counts."""
    return {
        **below,
        **{
            key: _over(below[key], value)
            if isinstance(value, dict) and isinstance(below.get(key), dict)
            else value
            for key, value in above.items()
        },
    }
