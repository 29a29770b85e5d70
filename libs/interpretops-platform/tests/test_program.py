"""The commands that an installation runs beside its services."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import asyncpg
import interpretops_platform
import pytest
from sqlalchemy.engine import make_url


def run(command, **variables):
    source = str(Path(interpretops_platform.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "interpretops_platform", command],
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
