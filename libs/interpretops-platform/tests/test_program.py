"""The commands that an installation runs beside its services."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import asyncpg
import interpretops_platform
import pytest
from interpretops_platform.security.key_files import create_key_file
from interpretops_platform.security.keys import ApiToken
from sqlalchemy.engine import make_url


def run(*command, **variables):
    source = str(Path(interpretops_platform.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "interpretops_platform", *command],
        env=os.environ | {"PYTHONPATH": source} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def empty_database(postgres_server):
    name = f"empty_{secrets.token_hex(6)}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield make_url(postgres_server.admin_url).set(database=name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_migrate_makes_the_tables_and_logins_that_work(postgres_server, empty_database):
    passwords = postgres_server.passwords
    variables = {
        "INTERPRETOPS_DATABASE__OWNER_DSN": empty_database.render_as_string(hide_password=False),
        "INTERPRETOPS_DATABASE__APP_PASSWORD": passwords["interpretops_app"],
        "INTERPRETOPS_DATABASE__SYSTEM_PASSWORD": passwords["interpretops_system"],
    }
    for _ in range(2):
        done = run("migrate", **variables)
        assert done.returncode == 0, done.stderr
    for role, password in passwords.items():
        url = empty_database.set(username=role, password=password)
        connection = await asyncpg.connect(url.render_as_string(hide_password=False))
        assert await connection.fetchval("SELECT count(*) FROM jobs") == 0
        await connection.close()


@pytest.mark.parametrize("command", ["migrate", "keep"])
def test_what_cannot_work_is_said_in_one_line(command):
    done = run(command)
    assert done.returncode == 2
    assert "Fix: " in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_installation_is_founded_from_nothing(
    postgres_server, empty_database, s3, tmp_path
):
    create_key_file(tmp_path / "pepper")
    create_key_file(tmp_path / "master-key")
    passwords = postgres_server.passwords
    variables = {
        "DATABASE__OWNER_DSN": empty_database.render_as_string(hide_password=False),
        "DATABASE__APP_PASSWORD": passwords["interpretops_app"],
        "DATABASE__SYSTEM_PASSWORD": passwords["interpretops_system"],
        "SECURITY__PEPPER_FILE": str(tmp_path / "pepper"),
        "SECURITY__MASTER_KEY_FILE": str(tmp_path / "master-key"),
        "OBJECTS__ENDPOINT": s3.endpoint,
        "OBJECTS__BUCKET": f"test-{secrets.token_hex(6)}",
        "OBJECTS__REGION": "us-east-1",
        "OBJECTS__ACCESS_KEY": s3.access_key,
        "OBJECTS__SECRET_KEY": s3.secret_key,
        "CACHE__DIR": str(tmp_path / "cache"),
    }
    variables = {f"INTERPRETOPS_{name}": value for name, value in variables.items()}
    for _ in range(2):
        done = run("prepare", **variables)
        assert done.returncode == 0, done.stderr
    founded = run("found", "Research", **variables)
    assert ApiToken.parse(founded.stdout.strip())
    again = run("found", "Research", **variables)
    assert (again.returncode, again.stdout) == (2, "")
    assert "already" in again.stderr
    retained = run("retain", **variables)
    assert retained.stdout.startswith("deleted 0 jobs"), retained.stderr
