"""The JSON Schema of policies, which editors complete and check keys with."""

from __future__ import annotations

from typing import Any

from interpretops.steering.policy import Policy


def json_schema() -> dict[str, Any]:
    """The schema of `policy.yaml`, draft 2020-12.

    It says what each key may hold. What spans keys (a range in order, heads of attention alone) and
    what only a model knows (its layers) is told by validation.
    """
    schema = Policy.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "InterpretOps steering policy"
    return schema
