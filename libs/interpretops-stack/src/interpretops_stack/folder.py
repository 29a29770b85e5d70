"""The folder in which one stack lives: its settings, secrets, data, logs and what is running."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from interpretops_stack.state import StackState

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_FOLDER = Path("./.io_stack")


class StackFolder:
    """Names of everything that `mechctl up` keeps.

    Args:
        path: The folder; it is made on first use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @property
    def config(self) -> Path:
        """The settings that every process reads, passwords included."""
        return self.path / "config.yaml"

    @property
    def secrets(self) -> Path:
        """Keys of the installation."""
        return self.path / "secrets"

    @property
    def profile(self) -> Path:
        """Address and key of this stack, for `mechctl --api local`."""
        return self.path / "profile.json"

    @property
    def admin_key(self) -> Path:
        """The admin's key between the moment it was made and the moment it was shown."""
        return self.secrets / "admin-key.unseen"

    @property
    def targets(self) -> Path:
        """Where each program shows its metrics, as Prometheus reads it."""
        return self.path / "prometheus-targets.json"

    @property
    def logs(self) -> Path:
        """What each process writes."""
        return self.path / "logs"

    @property
    def state(self) -> Path:
        """What runs, as the supervisor last saw it."""
        return self.path / "run" / "state.json"

    def log(self, name: str) -> Path:
        """What one process writes."""
        return self.logs / f"{name}.log"

    def make(self) -> None:
        """Make the folders; what holds secrets is closed to other users."""
        # PostgreSQL may run as an account of its own, which must be able to pass through.
        self.path.mkdir(parents=True, exist_ok=True)
        for private in (self.secrets, self.logs, self.state.parent):
            private.mkdir(mode=0o700, exist_ok=True)

    def read_state(self) -> StackState | None:
        """What the supervisor last wrote, if there ever was one."""
        try:
            return StackState.model_validate_json(self.state.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write_state(self, state: StackState) -> None:
        """Replace the state in one step, so that a reader never sees half of it."""
        write_privately(self.state, state.model_dump_json(indent=1).encode())

    def is_held(self) -> bool:
        """Whether a supervisor lives; the kernel lets go of its lock however it ends."""
        try:
            with self.hold():
                return False
        except BlockingIOError:
            return True

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one supervisor of this folder.

        Raises:
            BlockingIOError: When there is another one.
        """
        self.state.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.state.parent / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)


def write_privately(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    part.replace(path)
