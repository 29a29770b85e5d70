"""Copy what the chart ships from where it is kept; Helm reads no file outside a chart.

python charts/copy_files.py            # a test says when this is due
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ROOT / "charts/interpretops/files"
SOURCES = {
    "deploy/smoke.py": "",
    "deploy/prometheus/rules/*.yaml": "rules",
    "deploy/grafana/*.json": "dashboards",
}


def wanted() -> dict[Path, bytes]:
    """What should be in the chart's folder of files."""
    return {
        FILES / folder / path.name: path.read_bytes()
        for pattern, folder in SOURCES.items()
        for path in sorted(ROOT.glob(pattern))
    }


def stale() -> list[Path]:
    """Files that are missing, differ, or have no source."""
    should = wanted()
    there = {path for path in FILES.rglob("*") if path.is_file()}
    differ = {
        path for path, content in should.items() if path in there and path.read_bytes() != content
    }
    return sorted(differ | (there ^ should.keys()))


def main() -> int:
    """Copy all, and remove what has no source any more."""
    for path in stale():
        content = wanted().get(path)
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
