"""Build the pages into `src/interpretops_dashboard/static`, where the package serves them from.

`python services/dashboard/build.py [--check]`. Building needs Node; `--check` says, without Node,
whether what was built is of these sources.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WEB = HERE / "web"
STATIC = HERE / "src" / "interpretops_dashboard" / "static"
MARK = "sources.sha256"
"""Says of which sources an export is."""

_SOURCES = ("next.config.ts", "package.json", "package-lock.json", "tsconfig.json")


def digest() -> str:
    """SHA-256 over everything that the pages are made from."""
    files = [WEB / name for name in _SOURCES]
    files += [path for folder in ("src", "public") for path in (WEB / folder).rglob("*")]
    total = hashlib.sha256()
    for path in sorted(files):
        if path.is_file() and not _is_left_out(path):
            total.update(f"{path.relative_to(WEB)}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _is_left_out(path: Path) -> bool:
    """Tests, and types alone: no page changes with them."""
    return ".test." in path.name or path.parent.name == "testing" or path.name.endswith(".d.ts")


def build() -> int:
    """Build, and put the result where it is served from."""
    if shutil.which("npm") is None:
        print(
            "building the dashboard needs Node 20.19 or newer: https://nodejs.org", file=sys.stderr
        )
        return 2
    if not (WEB / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=WEB, check=True)
    shutil.rmtree(WEB / "out", ignore_errors=True)
    built_from = digest()
    subprocess.run(["npm", "run", "--silent", "build"], cwd=WEB, check=True)
    if digest() != built_from:
        print("the sources changed while they were built: build again", file=sys.stderr)
        return 1
    shutil.rmtree(STATIC, ignore_errors=True)
    shutil.copytree(WEB / "out", STATIC)
    (STATIC / MARK).write_text(built_from + "\n")
    return 0


def main() -> int:
    """Build, or check."""
    if "--check" not in sys.argv:
        return build()
    mark = STATIC / MARK
    if mark.is_file() and mark.read_text().strip() == digest():
        return 0
    print("the dashboard's pages are stale: make dashboard", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
