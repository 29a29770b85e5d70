"""Which platform the command line speaks to, if any."""

from __future__ import annotations

import json
import os
from pathlib import Path

from interpretops.cli.bench import Connection
from interpretops.errors import InterpretOpsError

LOCAL = "local"
STACK_VARIABLE = "INTERPRETOPS_STACK"
PROFILE = "profile.json"


def connection_to(api: str | None, key: str | None) -> Connection | None:
    """The platform at an address; `local` is the one that `mechctl up` started.

    Raises:
        InterpretOpsError: When nothing was started here.
    """
    if not api:
        return None
    if api != LOCAL:
        return Connection(api, key)
    profile = Path(os.environ.get(STACK_VARIABLE, ".io_stack")) / PROFILE
    try:
        found = json.loads(profile.read_text(encoding="utf-8"))
        return Connection(str(found["api"]), key or str(found["key"]), found.get("dashboard"))
    except (OSError, ValueError, KeyError):
        raise InterpretOpsError(
            f"there is no local platform ({profile} is missing)",
            fix=f"start one with `mechctl up`, or set {STACK_VARIABLE} to its folder",
        ) from None
