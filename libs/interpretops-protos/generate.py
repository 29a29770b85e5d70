"""Generate the Python stubs from the contracts in `protos/`: `python generate.py [TARGET]`."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGE = HERE / "src" / "interpretops_protos"
SOURCES = (ROOT / "protos", ROOT / "third_party" / "protos")
_FOREIGN = re.compile(r"^from (?:interpretops\.|(?=buf\.))", re.MULTILINE)


def generate(target: Path) -> None:
    """Write the stubs of every contract below `target`, in place of those that were there.

    protoc names Python modules after the .proto files. `interpretops` is the engine's package and
    `buf` is not ours, so both move below `interpretops_protos`.
    """
    plugins = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        files = sorted(path.relative_to(root) for root in SOURCES for path in root.rglob("*.proto"))
        services = [path for path in files if path.stem.endswith("_service")]
        include = [
            *(f"-I{root}" for root in SOURCES),
            f"-I{resources.files('grpc_tools') / '_proto'}",
        ]
        _run(
            *include,
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--python_out={made}",
            f"--mypy_out=quiet:{made}",
            *map(str, files),
        )
        _run(
            *include,
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            f"--grpc_python_out={made}",
            f"--mypy_grpc_out=quiet,async_only:{made}",
            *map(str, services),
        )
        for source, name in ((made / "interpretops" / "v1", "v1"), (made / "buf", "buf")):
            for path in source.rglob("*.py*"):
                path.write_text(_FOREIGN.sub("from interpretops_protos.", path.read_text()))
            for package in (source, *(path for path in source.rglob("*") if path.is_dir())):
                (package / "__init__.py").touch()
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(source, target / name)


def _run(*arguments: str) -> None:
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit(1)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
