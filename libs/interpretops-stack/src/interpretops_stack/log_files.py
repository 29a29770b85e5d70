"""The files that processes write their logs to: bounded in size, read together in order of time."""

from __future__ import annotations

import heapq
import shutil
import time
from typing import TYPE_CHECKING

from interpretops_stack.log_lines import LogLine, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MAX_BYTES = 10_000_000
KEPT = 3


def rotate(path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> bool:
    """Move what a log holds aside when it is long: `name.log.1` is newer than `name.log.2`.

    The file is copied and then emptied, because the process that writes it keeps it open.

    Returns:
        Whether it was long.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    with path.open("r+b") as file:  # its writer appends, and so goes on at the new end
        file.truncate()
    return True


def last_words(path: Path) -> str:
    """The last line of a log, behind a colon, for a message; nothing where it is empty."""
    lines = LogReader(path).last(1)
    return f": {lines[0].event[:300]}" if lines else ""


class LogReader:
    """Reads one log from its end on, across rotations.

    Args:
        path: The file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._last: LogLine | None = None

    def last(self, lines: int) -> list[LogLine]:
        """The last lines that are there now; `new` goes on behind them."""
        read = list(self._read())
        return read[-lines:] if lines else []

    def new(self) -> list[LogLine]:
        """What was written since."""
        return list(self._read())

    def _read(self) -> Iterator[LogLine]:
        try:
            with self._path.open("rb") as file:
                if self._offset > file.seek(0, 2):
                    self._offset, self._rest = 0, b""  # it was emptied
                file.seek(self._offset)
                content = file.read()
                self._offset = file.tell()
        except FileNotFoundError:
            return
        *whole, self._rest = (self._rest + content).split(b"\n")
        for raw in whole:
            text = raw.decode(errors="replace").rstrip("\r")
            if text:
                self._last = parse(self._path.stem, text, self._last)
                yield self._last


def merged(
    paths: Sequence[Path], *, lines: int, follow: bool, stop: Callable[[], bool]
) -> Iterator[LogLine]:
    """The lines of several logs in order of time.

    Args:
        paths: The files.
        lines: How many of the last lines of all to begin with.
        follow: Whether to go on with what is written from now on.
        stop: Asked while following; ends it.
    """
    readers = [LogReader(path) for path in paths]
    history = heapq.merge(*(reader.last(lines) for reader in readers), key=lambda line: line.time)
    yield from list(history)[-lines:] if lines else []
    while follow:
        ending = stop()
        fresh = [line for reader in readers for line in reader.new()]
        yield from sorted(fresh, key=lambda line: line.time)
        if ending:
            return
        time.sleep(0.2)
