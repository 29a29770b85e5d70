"""Print what our packages need of others, so that an image's slow layer changes only when that does.

    python requirements.py interpretops-gateway 'interpretops-tracer[worker]'

Run in the root of the repository, or beside copies of its pyproject files.
"""

import re
import sys
import tomllib
from pathlib import Path

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[(?P<extras>[^\]]*)\])?")


def third_party(wanted: list[str], projects: dict[str, dict]) -> set[str]:
    """Requirements on packages that are not ours, of these of ours and all that they need."""
    found: set[str] = set()
    seen: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        if requirement in seen:
            continue
        seen.add(requirement)
        match = _REQUIREMENT.match(requirement)
        project = projects.get(match["name"])
        if project is None:
            found.add(requirement)
            continue
        wanted += project.get("dependencies", [])
        for extra in filter(None, (match["extras"] or "").split(",")):
            wanted += project["optional-dependencies"][extra.strip()]
    return found


def main() -> None:
    """Print them, one a line."""
    files = [*Path("libs").glob("*/pyproject.toml"), *Path("services").glob("*/pyproject.toml")]
    projects = [tomllib.loads(file.read_text())["project"] for file in files]
    by_name = {project["name"]: project for project in projects}
    print(*sorted(third_party(sys.argv[1:], by_name)), sep="\n")


if __name__ == "__main__":
    main()
