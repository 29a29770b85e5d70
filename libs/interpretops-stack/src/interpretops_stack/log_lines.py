"""Log lines for people: one line for each JSON object, aligned, coloured by who wrote it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from rich.text import Text

_COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_LEVELS = {"warning": "yellow", "error": "bold red", "critical": "bold red", "debug": "dim"}
# `2026-01-31 12:00:00.123 UTC [42] LOG:  ready`, PostgreSQL's own form.
_POSTGRES = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) \S+ \[\d+\] (\w+):\s+(.*)")
# `42:M 31 Jan 2026 12:00:00.123 * Ready`, Valkey's own form, in local time.
_VALKEY = re.compile(r"\d+:\w (\d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d+) ([.*#-]) (.*)")
_POSTGRES_LEVELS = {"WARNING": "warning", "ERROR": "error", "FATAL": "error", "PANIC": "critical"}
_NAME_WIDTH = 16


@dataclass(frozen=True)
class LogLine:
    """One line of a log.

    Attributes:
        source: Who wrote it.
        time: When, Unix time; a line that does not say has the time of the one before it.
        level: `debug`, `info`, `warning`, `error` or `critical`.
        event: What happened.
        fields: What else is known.
        error: The traceback, if there is one.
        raw: The line as it stands in the file.
    """

    source: str
    time: float
    level: str
    event: str
    fields: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    raw: str = ""


def parse(source: str, raw: str, before: LogLine | None = None) -> LogLine:
    """Read a line in any of the forms that programs of the stack write.

    Args:
        source: Who wrote it.
        raw: The line.
        before: The line before it, for a line that does not say when it was written.
    """
    if raw.startswith("{"):
        try:
            return _from_json(source, raw)
        except (ValueError, KeyError, TypeError):
            pass
    if match := _POSTGRES.fullmatch(raw):
        when = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
        level = _POSTGRES_LEVELS.get(match[2], "info")
        return LogLine(source, when.timestamp(), level, match[3], raw=raw)
    if match := _VALKEY.fullmatch(raw):
        when = datetime.strptime(match[1], "%d %b %Y %H:%M:%S.%f").astimezone()
        level = "warning" if match[2] == "#" else "info"
        return LogLine(source, when.timestamp(), level, match[3], raw=raw)
    when_before = 0.0 if before is None else before.time
    return LogLine(source, when_before, "info", raw, raw=raw)


def _from_json(source: str, raw: str) -> LogLine:
    record = json.loads(raw)
    when = datetime.fromisoformat(record.pop("time")).timestamp()
    level, event = str(record.pop("level")), str(record.pop("event"))
    error = record.pop("error", None)
    for known in ("service", "logger", "span_id"):
        record.pop(known, None)
    if trace := record.pop("trace_id", None):
        record["trace"] = str(trace)[:8]
    return LogLine(source, when, level, event, record, error, raw)


def render(line: LogLine) -> Text:
    """A line to read: time, who, what, and the rest dimmed."""
    clock = datetime.fromtimestamp(line.time).astimezone().strftime("%H:%M:%S") if line.time else ""
    colour = _COLOURS[crc32(line.source.encode()) % len(_COLOURS)]
    text = Text()
    text.append(f"{clock:8} ", style="dim")
    text.append(f"{line.source:{_NAME_WIDTH}} ", style=colour)
    style = _LEVELS.get(line.level, "")
    if line.level not in ("info", "debug"):
        text.append(f"{line.level} ", style=style)
    text.append(line.event, style=style)
    for name, value in line.fields.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text.append(f"  {name}=", style="dim")
        text.append(shown, style="dim")
    if line.error:
        indent = " " * (10 + _NAME_WIDTH)
        for part in line.error.splitlines():
            text.append(f"\n{indent}{part}", style="dim")
    return text
