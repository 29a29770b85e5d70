"""The published JSON Schema of a Risk Card.

`python -m interpretops.evals.schema` writes the shipped file anew after the card has changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interpretops.evals.risk_card import RiskCard

SCHEMA_FILE = Path(__file__).parent / "risk_card.schema.json"


def json_schema() -> dict[str, Any]:
    """The schema as plain data."""
    schema = RiskCard.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as the shipped file holds it."""
    return json.dumps(json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
