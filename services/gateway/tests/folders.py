"""Artifacts as the engine exports them: folders with a manifest."""

import hashlib
import json

CIRCUIT = "cx_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
TRACE = "tr_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
DICTIONARY = "sae_01J9Z3W8Q5C2M7N4R6T8V0X1Y3"
SITE = "resid_post.12"
CARDS = {
    "tokens": ["the", " lock", " key", " sea"],
    "cards": [
        {
            "index": 47,
            "density": 0.01,
            "max": 8.0,
            "contexts": [[[0, 1], [0.0, 8.0], 1], [[0, 2], [0.0, 4.0], 1]],
            "promoted": [[2, 1.5], [1, 1.0]],
            "suppressed": [[3, -0.5]],
            "histogram": {"low": 4.0, "ratio": 2.0, "counts": [3, 0, 1]},
        },
        {
            "index": 90,
            "density": 0.5,
            "max": 1.0,
            "contexts": [[[3], [1.0], 0]],
            "promoted": [],
            "suppressed": [],
        },
    ],
}
GRAPH = {
    "risk_class": "jailbreak",
    "units": [
        {"unit": "layer9.attn.h4", "attribution": 0.2, "ccs": {"value": 0.11}},
        {"unit": "layer12.f47", "attribution": 0.3, "ccs": {"value": 0.18}},
        {"unit": "layer3.mlp", "attribution": 0.1, "ccs": None},
    ],
    "edges": [],
}


def exported(folder, artifact_id, kind, files, parents=()):
    """A folder as the engine exports an artifact."""
    folder.mkdir(parents=True)
    listed = []
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        media_type = "application/pdf" if name.endswith(".pdf") else "application/json"
        sha256 = hashlib.sha256(content).hexdigest()
        listed.append(
            {"path": name, "sha256": sha256, "size": len(content), "media_type": media_type}
        )
    manifest = {
        "id": artifact_id,
        "kind": kind,
        "schema_version": 1,
        "sha256": "0" * 64,
        "spec_hash": "1" * 64,
        "parents": list(parents),
        "files": listed,
        "summary": {"units": 3},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
