"""Take the schemas of foreign resources out of checkouts of the projects that define them.

    python charts/tests/schemas/vendor.py keda=../keda cert-manager=../cert-manager …

What is kept says of every field its type and which others there are; descriptions are left out.
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml

SOURCES = {
    "keda": [
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ],
    "cert-manager": [
        "deploy/crds/cert-manager.io_certificates.yaml",
        "deploy/crds/cert-manager.io_issuers.yaml",
    ],
    "external-secrets": ["config/crds/bases/external-secrets.io_externalsecrets.yaml"],
    "prometheus-operator": [
        f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        for kind in ("servicemonitors", "podmonitors", "prometheusrules")
    ],
}


def strict(schema: dict) -> dict:
    """As the API server prunes: an object with named properties has no others."""
    kept = {
        key: value
        for key, value in schema.items()
        if key not in ("description", "default", "format")
    }
    for key in ("properties", "patternProperties"):
        if key in kept:
            kept[key] = {name: strict(part) for name, part in kept[key].items()}
    for key in ("items", "not", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = strict(kept[key])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in kept:
            # Alternatives say what must be there, not what may be.
            kept[key] = [
                {k: v for k, v in part.items() if k != "description"} for part in kept[key]
            ]
    open_ended = kept.pop("x-kubernetes-preserve-unknown-fields", False)
    if kept.pop("x-kubernetes-int-or-string", False):
        kept.pop("type", None)
        kept["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "pattern" in kept:  # flags in the middle are Go's way
        kept["pattern"] = kept["pattern"].replace("^(?i)", "(?i)^")
    if "properties" in kept and not open_ended:
        kept.setdefault("additionalProperties", False)
    return {key: value for key, value in kept.items() if not key.startswith("x-kubernetes-")}


def main() -> None:
    """Write one file for each kind and version that is served."""
    for argument in sys.argv[1:]:
        project, _, checkout = argument.partition("=")
        git = ["git", "-C", checkout]
        commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
        for path in SOURCES[project]:
            text = subprocess.check_output([*git, "show", f"HEAD:{path}"], text=True)
            definition = yaml.safe_load(text)["spec"]
            for version in definition["versions"]:
                if not version["served"]:
                    continue
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                schema["$comment"] = f"{project} {commit[:12]} {path} (Apache-2.0)"
                name = f"{definition['names']['kind']}.{version['name']}.json".lower()
                target = Path(__file__).parent / name
                target.write_text(json.dumps(schema, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
