"""Run `smoke.py` on the images: every program in a container, on servers of this machine.

    python deploy/smoke_containers.py --images localhost/interpretops-

PostgreSQL and Valkey come from wheels and S3 from moto, so that this needs an engine for containers and no
image of others. Containers run as they do in production: another user, no capabilities, a read-only root.
"""

import argparse
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from interpretops_platform.embedded import EmbeddedPostgres, EmbeddedValkey, temporary_folder
from interpretops_platform.security.key_files import create_key_file
from moto.server import ThreadedMotoServer
from smoke import MODEL, Installation, run

USER = 10001
SERVICES = ("tracer", "sae_trainer", "circuit_search", "evaluator", "reporter", "steering_gateway")
SECRETS = "/run/secrets"


class Containers:
    """Containers of one run, all on the network of this machine; gone at the end.

    Args:
        engine: `podman` or `docker`.
        images: What the names of the images begin with.
        folder: Holds the secrets.
        environment: Variables of all of them.
    """

    def __init__(self, engine: str, images: str, folder: Path, environment: dict[str, str]) -> None:
        self._engine = engine
        self._images = images
        self._folder = folder
        self._environment = environment
        self._prefix = f"smoke-{secrets.token_hex(3)}"
        self._started: list[str] = []

    def start(self, image: str, *command: str) -> str:
        """Start a container in the background, and return its name."""
        name = f"{self._prefix}-{image}"
        self._started.append(name)
        self._run(
            "run", "--detach", "--name", name, *self._options(), self._images + image, *command
        )
        return name

    def once(self, image: str, *command: str) -> str:
        """Run a container to its end, and return what it printed."""
        return self._run("run", "--rm", *self._options(), self._images + image, *command).strip()

    def wait_until_healthy(self, image: str, name: str, *, seconds: float = 180) -> None:
        """Wait until the program inside says that it is ready."""
        deadline = time.monotonic() + seconds
        check = ("python", "-m", "interpretops_platform", "healthy", name)
        while True:
            inside = (self._engine, "exec", f"{self._prefix}-{image}", *check)
            if subprocess.run(inside, capture_output=True, check=False).returncode == 0:
                return
            self.require_running()
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} is not ready:\n{self.logs(image)}")
            time.sleep(1)

    def require_running(self) -> None:
        """Go on only if every container that was started still runs.

        Raises:
            SystemExit: When one has ended; with the end of its log.
        """
        ask = (self._engine, "ps", "--format", "{{.Names}}", "--filter", f"name={self._prefix}")
        running = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
        for name in self._started:
            if name not in running:
                image = name.removeprefix(f"{self._prefix}-")
                raise SystemExit(f"the container of {image} has ended:\n{self.logs(image)}")

    def logs(self, image: str) -> str:
        """The end of what a container wrote."""
        command = (self._engine, "logs", "--tail", "40", f"{self._prefix}-{image}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def stop(self) -> None:
        """End all of them, by the signal that production uses."""
        for name in reversed(self._started):
            for verb in (("stop", "--time", "30"), ("rm", "--force")):
                subprocess.run((self._engine, *verb, name), capture_output=True, check=False)

    def _options(self) -> list[str]:
        variables = [f"--env={name}={value}" for name, value in self._environment.items()]
        return [
            *("--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--user", f"{USER}:0"),
            *("--volume", f"{self._folder}:{SECRETS}:ro"),
            *variables,
        ]

    def _run(self, *arguments: str) -> str:
        command = (self._engine, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command[:2])}: {done.stderr or done.stdout}")
        return done.stdout


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def write_secrets(folder: Path, values: dict[str, str]) -> None:
    """Keys of a new installation, and settings that are secret, for the containers' user alone."""
    for name in ("pepper", "master-key", "identity-keys"):
        create_key_file(folder / name)
    for name, value in values.items():
        (folder / f"interpretops_{name}").write_text(value)
    for path in (folder, *folder.iterdir()):
        os.chown(path, USER, USER)


def main() -> int:
    """Read the command line, start everything, drive it, and end it."""
    parser = argparse.ArgumentParser(description="Run a tiny job on the images.")
    parser.add_argument("--engine", default="podman")
    parser.add_argument("--images", default="localhost/interpretops-", help="how their names begin")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        postgres = EmbeddedPostgres(temporary_folder("smoke-pg-"), durable=False).start()
        stack.callback(postgres.stop)
        valkey = EmbeddedValkey(temporary_folder("smoke-valkey-")).start()
        stack.callback(valkey.stop)
        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        moto.start()
        stack.callback(moto.stop)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smoke-secrets-")))
        passwords = {
            f"database__{role}_password": secrets.token_hex(8) for role in ("app", "system")
        }
        write_secrets(
            folder,
            {
                **passwords,
                "database__owner_dsn": postgres.url,
                "redis__url": valkey.url,
                "objects__access_key": "smoke",
                "objects__secret_key": "smoke-secret",
            },
        )
        host, port = moto.get_host_and_port()
        edge = free_port()
        environment = {
            "SECRETS_DIR": SECRETS,
            "SECURITY__PEPPER_FILE": f"{SECRETS}/pepper",
            "SECURITY__MASTER_KEY_FILE": f"{SECRETS}/master-key",
            "GRPC__IDENTITY_KEYS": f"{SECRETS}/identity-keys",
            "GRPC__HOST": "127.0.0.1",
            "OBJECTS__ENDPOINT": f"http://{host}:{port}",
            "OBJECTS__BUCKET": "interpretops",
            "OBJECTS__REGION": "us-east-1",
            "MODEL": f'{{"name": "{MODEL}"}}',
            "EDGE__HOST": "127.0.0.1",
            "EDGE__PORT": str(edge),
            **{f"SERVICES__{name.upper()}": f"dns:///127.0.0.1:{free_port()}" for name in SERVICES},
        }
        variables = {f"INTERPRETOPS_{name}": value for name, value in environment.items()}
        containers = Containers(chosen.engine, chosen.images, folder, variables)
        stack.callback(containers.stop)
        containers.once("platform", "prepare")
        key = containers.once("platform", "found", "Smoke")
        containers.start("platform", "keep")
        for name in SERVICES:
            containers.start(name.replace("_", "-"))
        containers.start("worker")
        containers.start("edge")
        for name in (*SERVICES, "edge"):
            containers.wait_until_healthy(name.replace("_", "-"), name)
        print("all containers are ready", flush=True)
        try:
            address = f"http://127.0.0.1:{edge}"
            run(Installation(address, key, seconds=900, check=containers.require_running))
        except BaseException:
            for name in ("worker", "edge", "steering-gateway"):
                print(f"── {name}\n{containers.logs(name)}", file=sys.stderr)
            raise
    print("everything works in containers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
