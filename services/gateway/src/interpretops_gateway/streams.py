"""Server-sent events as the OpenAPI document describes them: one schema for each event."""

from typing import Any

_EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "The cursor, where a stream can be gone on with."},
        "event": {"type": "string", "description": "The type."},
        "data": {"type": "string", "description": "JSON, but for the `[DONE]` of OpenAI."},
    },
    "required": ["data"],
}


def event_stream(example: str | None = None) -> dict[str, Any]:
    """The `content` of a response that is a stream of events.

    Args:
        example: The beginning of one.
    """
    described: dict[str, Any] = {"itemSchema": _EVENT}
    if example is not None:
        described["example"] = example
    return {"text/event-stream": described}
