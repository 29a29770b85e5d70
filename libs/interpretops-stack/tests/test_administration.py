"""An installation is administered from a terminal, before there is any key and on the record."""

import asyncio
import re
import shutil
from datetime import UTC, datetime

import asyncpg
import pytest
import typer
import yaml
from interpretops.errors import InterpretOpsError
from interpretops_platform.anchors import AuditAnchors, anchor
from interpretops_platform.audit import verify
from interpretops_platform.database.models import AuditEntry
from interpretops_platform.database.session import tenant_session
from interpretops_platform.embedded import EmbeddedPostgres, temporary_folder
from interpretops_platform.objects.file import FileBlobs
from interpretops_platform.security import keys
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.key_store import find_key
from interpretops_platform.security.keys import ApiToken
from interpretops_platform.security.peppers import Peppers
from interpretops_platform.security.principal import UnauthenticatedError
from interpretops_platform.settings import load_settings
from interpretops_platform.tenants import find_tenant
from interpretops_stack import administration
from interpretops_stack.folder import StackFolder
from sqlalchemy import select
from typer.testing import CliRunner


@pytest.fixture
def config(settings, tmp_path):
    for name in ("pepper", "master-key"):
        create_key_file(tmp_path / name)
    content = {
        "database": {
            "owner_dsn": settings.database.owner_dsn.get_secret_value(),
            "app_password": settings.database.app_password.get_secret_value(),
            "system_password": settings.database.system_password.get_secret_value(),
        },
        "security": {
            "pepper_file": str(tmp_path / "pepper"),
            "master_key_file": str(tmp_path / "master-key"),
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def run(config):
    app = typer.Typer()
    administration.register(app)

    def _run(*arguments, status=0, given=None, own=False):
        whose = [] if own else ["--config", str(config)]
        result = CliRunner().invoke(app, [*arguments, *whose], input=given)
        if isinstance(result.exception, InterpretOpsError):
            raise result.exception
        assert result.exit_code == status, result.output
        return result.output

    return _run


@pytest.fixture
def caller(database, config):
    """Who a key proves to be."""
    peppers = Peppers.from_file(config.parent / "pepper")

    def _caller(text):
        async def look_up():
            token = ApiToken.parse(text)
            record = await find_key(database, token.prefix)
            await database.close()
            return keys.verify(token, record, peppers=peppers, now=datetime.now(UTC))

        return asyncio.run(look_up())

    return _caller


def issued(output):
    return re.search(r"iop_\w+", output)[0]


def test_a_new_installation_gets_its_first_key(run, caller):
    run("tenants", "create", "Research")
    admin = issued(run("keys", "issue", "ada", "--role", "admin", "--days", "1"))
    assert caller(admin).subject == "key:ada"
    narrow = ("keys", "issue", "bot", "--role", "operator", "--scope", "generate")
    assert caller(issued(run(*narrow))).scopes == {"generate"}
    listed = run("keys", "list")
    assert admin not in listed
    assert ApiToken.parse(admin).prefix in listed
    assert "Research" in run("tenants", "list")


def test_keys_are_rotated_and_revoked(run, caller):
    run("tenants", "create", "Research")
    first = issued(run("keys", "issue", "ada", "--role", "viewer"))
    second = issued(run("keys", "rotate", ApiToken.parse(first).prefix))
    assert caller(first).subject == caller(second).subject == "key:ada"
    run("keys", "revoke", ApiToken.parse(first).prefix)
    with pytest.raises(UnauthenticatedError, match="revoked"):
        caller(first)
    assert caller(second).subject == "key:ada"


def test_what_was_done_stands_in_the_log(run, database):
    run("tenants", "create", "Research")
    key = issued(run("keys", "issue", "ada", "--role", "viewer"))
    run("keys", "rotate", ApiToken.parse(key).prefix)
    run("keys", "revoke", ApiToken.parse(key).prefix)
    run("tenants", "rewrap")

    async def entries():
        tenant = await find_tenant(database, "Research")
        async with tenant_session(database, tenant.id) as session:
            await verify(session)
            rows = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq))).all()
        await database.close()
        return [(row.actor, row.action) for row in rows]

    actions = ("tenant.create", "key.issue", "key.rotate", "key.revoke", "tenant.rewrap")
    assert asyncio.run(entries()) == [("installation", action) for action in actions]


def test_a_changed_log_is_told_with_the_place(run, settings):
    run("tenants", "create", "Research")
    run("keys", "issue", "ada", "--role", "viewer")
    sound = run("audit", "verify")
    head = re.search(r"2:[0-9a-f]{64}", sound)[0]
    assert "sound" in run("audit", "verify", "--known", head)
    assert "is missing" in run("audit", "verify", "--known", f"3:{head[2:]}", status=1)

    async def intrude():
        connection = await asyncpg.connect(settings.database.owner_dsn.get_secret_value())
        await connection.execute("ALTER TABLE audit_log DISABLE TRIGGER append_only")
        await connection.execute("UPDATE audit_log SET actor = 'eve' WHERE seq = 1")
        await connection.close()

    asyncio.run(intrude())
    assert "audit entry 1 was changed" in " ".join(run("audit", "verify", status=1).split())


def test_a_log_that_was_cut_off_contradicts_its_anchors(run, settings, config, database):
    content = yaml.safe_load(config.read_text())
    content["audit"] = {"anchor_folder": str(config.parent / "anchors")}
    config.write_text(yaml.safe_dump(content))
    run("tenants", "create", "Research")
    run("keys", "issue", "ada", "--role", "viewer")
    assert "no anchor to hold it against" in run("audit", "verify")

    async def note():
        await anchor(database, AuditAnchors(FileBlobs(config.parent / "anchors")))
        await database.close()

    async def cut_off():
        connection = await asyncpg.connect(settings.database.owner_dsn.get_secret_value())
        await connection.execute("ALTER TABLE audit_log DISABLE TRIGGER append_only")
        await connection.execute("DELETE FROM audit_log WHERE seq = 2")
        await connection.close()

    asyncio.run(note())
    assert "agrees with its one anchor" in run("audit", "verify")
    asyncio.run(cut_off())
    assert "audit entry 2 is missing" in " ".join(run("audit", "verify", status=1).split())


def test_a_backup_becomes_a_stack_of_its_own(run, config):
    run("tenants", "create", "Research")
    key = issued(run("keys", "issue", "ada", "--role", "viewer"))
    kept, new = config.parent / "kept", temporary_folder("interpretops-restored-")
    assert "master key and pepper" in run("backup", str(kept))
    with pytest.raises(InterpretOpsError, match="keys of the installation are missing"):
        run("restore", str(kept), "--data", str(new), own=True)
    said = run("restore", str(kept), "--data", str(new), "--keys", str(config.parent), own=True)
    assert "1 audit logs" in said
    with pytest.raises(InterpretOpsError, match="there is a stack"):
        run("restore", str(kept), "--data", str(new), "--keys", str(config.parent), own=True)

    port = load_settings(StackFolder(new).config).owner_url().port
    server = EmbeddedPostgres(new / "postgres", port=port).start()
    try:
        config.write_text(StackFolder(new).config.read_text())
        assert "sound" in run("audit", "verify", "--tenant", "Research")
        assert ApiToken.parse(key).prefix in run("keys", "list", "--tenant", "Research")
    finally:
        server.stop()
        shutil.rmtree(new)


def test_shredding_asks_first(run, caller):
    run("tenants", "create", "Research")
    key = issued(run("keys", "issue", "ada", "--role", "viewer"))
    run("tenants", "shred", "Research", given="n\n", status=1)
    assert caller(key).subject == "key:ada"
    run("tenants", "shred", "Research", "--yes")
    with pytest.raises(UnauthenticatedError):
        caller(key)
    assert "shredded" in run("tenants", "list")
    assert "sound" in run("audit", "verify", "--tenant", "Research")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("keys", "list"), "no tenant yet"),
        (("keys", "list", "--tenant", "nobody"), "no tenant 'nobody'"),
        (("audit", "verify", "--known", "seven"), "no head"),
        (("tenants", "shred", "nobody", "--yes"), "no tenant"),
        (("tenants", "create", " "), "name of a tenant"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(run, arguments, problem):
    with pytest.raises(InterpretOpsError, match=f"{problem}.*Fix: "):
        run(*arguments)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("keys", "issue", "x", "--role", "king"), "'king' is no role"),
        (("keys", "issue", "x", "--role", "viewer", "--scope", "generate"), "do not allow"),
        (("keys", "issue", "x", "--role", "viewer", "--days", "0"), "not positive"),
        (("keys", "revoke", "abcdefghijkl"), "no key"),
        (("keys", "rotate", "abcdefghijkl"), "no key"),
        (("tenants", "create", "Research"), "already"),
    ],
)
def test_mistakes_about_keys_are_one_line_with_the_fix(run, arguments, problem):
    run("tenants", "create", "Research")
    with pytest.raises(InterpretOpsError, match=f"{problem}.*Fix: "):
        run(*arguments)


def test_which_tenant_must_be_said_where_there_are_two(run):
    for name in ("Research", "Sales"):
        run("tenants", "create", name)
    with pytest.raises(InterpretOpsError, match="--tenant"):
        run("keys", "list")
    run("keys", "list", "--tenant", "Sales")


def test_a_database_that_is_away_is_said(run, config):
    content = yaml.safe_load(config.read_text())
    content["database"]["owner_dsn"] = "postgresql://o:p@127.0.0.1:9/nothing"
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(InterpretOpsError, match="does not answer"):
        run("tenants", "list")
