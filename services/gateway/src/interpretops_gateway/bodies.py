"""What all request bodies have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A JSON body: unknown fields and values of another type are errors, not guesses."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


def example(**fields: Any) -> ConfigDict:
    """The configuration of a body that shows these fields as its example."""
    return ConfigDict(json_schema_extra={"examples": [fields]})
