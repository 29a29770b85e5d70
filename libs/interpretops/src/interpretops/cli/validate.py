"""Specs built from options: what does not fit is one line that names the option."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from interpretops.errors import InterpretOpsError

Spec = TypeVar("Spec", bound=BaseModel)


def checked(model: type[Spec], **values: Any) -> Spec:
    """Build a spec.

    Raises:
        InterpretOpsError: When a value does not fit.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "options"
        message = first["msg"].removeprefix("Value error, ")
        raise InterpretOpsError(
            f"{name} = {first.get('input')!r}: {message}", fix=f"correct --{name.replace('_', '-')}"
        ) from error
