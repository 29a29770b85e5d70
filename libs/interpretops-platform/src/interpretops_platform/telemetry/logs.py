"""Logs: one JSON object a line on standard error, with the trace and the tenant, without secrets."""

from __future__ import annotations

import json
import logging
import math
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from opentelemetry import trace

from interpretops_platform.telemetry.scrubbing import scrubbed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from interpretops_platform.telemetry.settings import LogLevel

_MAX_TEXT = 16_384
_MAX_DEPTH = 8
_bound: ContextVar[dict[str, str]] = ContextVar("interpretops_log_fields")

# What a record has by itself; everything else on it came from `extra`.
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Everything logged inside carries these fields, such as `tenant` and `job_id`."""
    token = _bound.set({**_bound.get({}), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, without the secrets that its texts and values hold.

    The fields `time`, `level`, `event`, `logger`, `service`, `trace_id`, `span_id` and `error` are
    ours; an extra field of one of these names gets an underscore behind it.

    Args:
        service: Name of the service, such as `steering_gateway`.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON without a line break."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "service": self._service,
            "logger": record.name,
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            fields["trace_id"] = trace.format_trace_id(span.trace_id)
            fields["span_id"] = trace.format_span_id(span.span_id)
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        elif record.exc_text:
            fields["error"] = record.exc_text
        extra = {name: value for name, value in vars(record).items() if name not in _RECORD_FIELDS}
        ours = frozenset(fields) | {"trace_id", "span_id", "error"}
        for name, value in {**_bound.get({}), **extra}.items():
            fields[f"{name}_" if name in ours else name] = value
        # Cut behind the scrubbing: half a secret would not be recognised.
        return json.dumps(_bounded(scrubbed(fields), 0), ensure_ascii=False, allow_nan=False)


def configure_logging(
    service: str, *, level: LogLevel = "INFO", stream: IO[str] | None = None
) -> None:
    """Send everything this process logs to standard error as JSON; what was set up before goes.

    Args:
        service: Name of the service.
        level: The least level that is logged.
        stream: Where lines go instead.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)


def _bounded(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]}… (cut)"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict | list) and depth == _MAX_DEPTH:
        return "… (too deep)"
    if isinstance(value, dict):
        return _bounded_items(value, depth)
    if isinstance(value, list):
        return [_bounded(item, depth + 1) for item in value]
    return value


def _bounded_items(value: Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {key: _bounded(item, depth + 1) for key, item in value.items()}
