"""The checked-in stubs are what the contracts say now, and incompatible changes are found."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
PACKAGE = HERE / "src" / "interpretops_protos"
GENERATED = ("v1", "buf")

_breaking = runpy.run_path(str(HERE / "breaking.py"))
breaks, baseline, extract = (_breaking[name] for name in ("breaks", "baseline", "extract"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in GENERATED
        for path in (folder / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_stubs_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, HERE / "generate.py", tmp_path], check=True)
    new, old = contents(tmp_path), contents(PACKAGE)
    changed = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    assert not changed, "run `make protos` and commit what it writes"


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    """A copy of the contracts, to be edited."""
    for name in ("protos", "third_party"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def edit(contracts: Path, name: str, old: str, new: str) -> None:
    path = contracts / "protos" / "interpretops" / "v1" / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_a_renumbered_field_breaks(contracts: Path) -> None:
    edit(contracts, "job.proto", "string etag = 14;", "string etag = 99;")
    assert any('"14"' in line and "job.proto" in line for line in breaks(contracts, ROOT))


def test_a_removed_method_breaks(contracts: Path) -> None:
    edit(
        contracts,
        "job_service.proto",
        "rpc GetJob(GetJobRequest) returns (GetJobResponse)",
        "rpc ReadJob(GetJobRequest) returns (GetJobResponse)",
    )
    assert any('"GetJob"' in line for line in breaks(contracts, ROOT))


def test_a_removed_field_breaks_unless_it_stays_reserved(contracts: Path) -> None:
    edit(contracts, "job.proto", "string etag = 14;", "")
    found = breaks(contracts, ROOT)
    assert any('"14"' in line for line in found)
    assert any('"etag"' in line for line in found)
    edit(
        contracts,
        "job.proto",
        "string idempotency_key = 15;",
        'reserved 14;\n  reserved "etag";\n  string idempotency_key = 15;',
    )
    assert breaks(contracts, ROOT) == []


def test_a_new_field_breaks_nothing(contracts: Path) -> None:
    edit(contracts, "job.proto", "string etag = 14;", "string etag = 14;\n  string note = 99;")
    assert breaks(contracts, ROOT) == []


def test_a_contract_that_does_not_compile_is_named(contracts: Path) -> None:
    edit(contracts, "job.proto", "string etag = 14;", "strin etag = 14;")
    assert any("job.proto" in line and "strin" in line for line in breaks(contracts, ROOT))


def test_a_missing_baseline_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no-such"):
        breaks(ROOT, tmp_path / "no-such")


def test_the_last_tag_is_compared_with(contracts: Path, tmp_path_factory: Any) -> None:
    def git(*arguments: str) -> None:
        me = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(contracts), *me, *arguments], check=True)

    git("init", "--quiet", "--initial-branch=main")
    assert baseline(contracts) is None
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    git("tag", "v1")
    edit(contracts, "job.proto", "string etag = 14;", "")
    git("commit", "--quiet", "--all", "--message=second")
    assert baseline(contracts) == "v1"
    before = tmp_path_factory.mktemp("before")
    extract(contracts, "v1", before)
    assert any('"14"' in line for line in breaks(contracts, before))
    assert breaks(ROOT, before) == []
