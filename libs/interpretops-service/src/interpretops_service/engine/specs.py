"""Messages as the engine's specs: the contracts mirror them field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from interpretops_protos.plain import to_plain
from pydantic import BaseModel, ValidationError

from interpretops_service.errors import RequestError

if TYPE_CHECKING:
    from google.protobuf.message import Message

S = TypeVar("S", bound=BaseModel)


def to_spec(kind: type[S], message: Message, *, path: str, **unset: Any) -> S:
    """The engine's spec that a message says.

    Args:
        kind: The spec.
        message: Its message.
        path: Where the message stands in the request.
        **unset: What this installation takes where the message leaves a field open.

    Raises:
        RequestError: When the engine is stricter than the contract; it names the field.
    """
    try:
        return kind.model_validate({**unset, **to_plain(message)})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = path
        for step in first["loc"]:
            field += f"[{step}]" if isinstance(step, int) else f".{step}"
        # The engine's own error is the cause of the one that pydantic takes for a wrong value.
        said = getattr(first.get("ctx", {}).get("error"), "__cause__", None)
        problem = getattr(said, "problem", first["msg"].removeprefix("Value error, "))
        raise RequestError(
            f"{field}: {problem}",
            fix=getattr(said, "fix", "correct it, or leave it out"),
            field=field,
        ) from None
