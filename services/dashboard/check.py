"""What `make lint`, `make test` and `make test-pages` do for the dashboard: `check.py lint|test|pages`.

Without Node (and for the specs, Chromium) they say what is left out, and in CI (`CI` is set) that is a
failure. Nothing else needs either: the pages that are served are checked in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
WEB = HERE / "web"
CHROMIUM = os.environ.get("INTERPRETOPS_CHROMIUM", "/usr/bin/chromium")


def lint() -> None:
    """The types, the rules, and whether the client's types are those of the contract."""
    _run("tsc", "npm", "run", "--silent", "typecheck")
    _run("eslint", "npm", "run", "--silent", "lint")
    _say("the client's types")
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "schema.d.ts"
        subprocess.run(
            ["npx", "openapi-typescript", "openapi.json", "--output", str(fresh)],
            cwd=WEB,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if fresh.read_bytes() != (WEB / "src" / "api" / "schema.d.ts").read_bytes():
            sys.exit("the client's types are stale: python services/dashboard/generate.py")


def test() -> None:
    """Units."""
    _run("vitest", "npm", "run", "--silent", "test")


def pages() -> None:
    """The pages in a browser, against a stack."""
    if not Path(CHROMIUM).exists():
        _leave_out(f"the pages in a browser: there is no {CHROMIUM}", "apt-get install chromium")
        return
    _say("the pages in a browser, against a stack of their own")
    done = subprocess.run([sys.executable, str(HERE / "e2e.py")], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _has_node() -> bool:
    if shutil.which("npm") is None:
        return False
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    major, minor = (int(part) for part in said.strip().removeprefix("v").split(".")[:2])
    return (major, minor) >= (20, 19)


def _install() -> None:
    installed, wanted = WEB / "node_modules" / ".package-lock.json", WEB / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        _run("what the pages are built with", "npm", "ci", "--no-audit", "--no-fund", "--silent")


def _run(what: str, *command: str) -> None:
    _say(what)
    done = subprocess.run(command, cwd=WEB, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _say(what: str) -> None:
    print(f"── dashboard: {what}", flush=True)


def _leave_out(what: str, fix: str) -> None:
    if os.environ.get("CI"):
        sys.exit(f"CI cannot leave out {what}. Fix: {fix}.")
    _say(f"left out: {what}. To run it: {fix}")


def main() -> None:
    """Run one of them."""
    chosen = {"lint": lint, "test": test, "pages": pages}[sys.argv[1]]
    if not _has_node():
        _leave_out(f"the {sys.argv[1]} of the pages: it needs Node 20.19", "https://nodejs.org")
        return
    _install()
    chosen()


if __name__ == "__main__":
    main()
