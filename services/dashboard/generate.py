"""Write the edge's OpenAPI document to `web/openapi.json`, and the client's types from it.

`python services/dashboard/generate.py [--check]`; the types need Node.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).parent / "web"
DOCUMENT = WEB / "openapi.json"


def document() -> str:
    """The edge's OpenAPI document as it is kept."""
    from interpretops_gateway.app import create_app
    from interpretops_platform.settings import Settings

    return json.dumps(create_app(Settings()).openapi(), indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Write, or with `--check` say whether what is kept is current."""
    if "--check" in sys.argv:
        if DOCUMENT.read_text() == document():
            return 0
        print("the dashboard's client is stale: python services/dashboard/generate.py")
        return 1
    DOCUMENT.write_text(document())
    return subprocess.run(["npm", "run", "--silent", "client"], cwd=WEB, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
