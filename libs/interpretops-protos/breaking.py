"""Compare the contracts with those of the last release: `python breaking.py`.

The last release is the newest tag that this commit contains; before the first tag, it is where this
branch left `main`. Exit status 1 when a client or a stored message of then would fail now.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ("buf.yaml", "protos", "third_party/protos")


def breaks(now: Path, before: Path) -> list[str]:
    """What is incompatible in the contracts below `now` with those below `before`, a line each."""
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or "buf"
    done = subprocess.run(
        [buf, "breaking", "--against", str(before)],
        cwd=now,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 100):  # 100: it ran, and found something
        raise RuntimeError(done.stderr.strip())
    return done.stdout.splitlines()


def baseline(root: Path) -> str | None:
    """The revision to compare with, or None where there is none that has contracts."""
    for command in (
        ["describe", "--tags", "--abbrev=0"],
        ["merge-base", "HEAD", "main"],
        ["merge-base", "HEAD", "origin/main"],  # a checkout of a branch alone
    ):
        found = _git(root, *command)
        if found is not None:
            revision = found.decode().strip()
            held = _git(root, "cat-file", "-e", f"{revision}:{CONTRACTS[0]}") is not None
            return revision if held else None
    return None


def extract(root: Path, revision: str, target: Path) -> None:
    """Put the contracts of a revision below `target`."""
    archive = _git(root, "archive", revision, *CONTRACTS)
    if archive is None:
        raise RuntimeError(f"{revision} does not hold {', '.join(CONTRACTS)}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(target, filter="data")


def _git(root: Path, *arguments: str) -> bytes | None:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def main() -> int:
    """Say what is incompatible; 1 if anything is."""
    revision = baseline(ROOT)
    if revision is None:
        print("contracts: nothing earlier to compare with")
        return 0
    with tempfile.TemporaryDirectory() as before:
        extract(ROOT, revision, Path(before))
        found = breaks(ROOT, Path(before))
    print("\n".join(found) or f"contracts: compatible with {revision[:12]}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
