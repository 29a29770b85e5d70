"""Specs built from options: what does not fit is one line that names the option."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Mapping

Spec = TypeVar("Spec", bound=BaseModel)


def checked(
    model: type[Spec], options: Mapping[str, str] = MappingProxyType({}), **values: Any
) -> Spec:
    """Build a spec.

    Args:
        model: The spec's model.
        options: The option a value comes from, where it is not called as the field is.
        **values: The values by field.

    Raises:
        InterpretOpsError: When a value does not fit.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "options"
        option = options.get(name, f"--{name.replace('_', '-')}")
        # The engine's own error is the cause of the one that pydantic takes for a wrong value.
        said = getattr(first.get("ctx", {}).get("error"), "__cause__", None)
        message = getattr(said, "problem", first["msg"].removeprefix("Value error, "))
        raise InterpretOpsError(
            f"{option.removeprefix('--')} = {first.get('input')!r}: {message}",
            fix=getattr(said, "fix", f"correct {option}"),
        ) from error
