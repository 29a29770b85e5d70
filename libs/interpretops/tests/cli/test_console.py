"""Progress where there is no terminal to redraw: counts, time left, and no flood of lines."""

from __future__ import annotations

import pytest
from interpretops.cli import console
from interpretops.cli.console import TerminalMonitor
from interpretops.progress import Steps


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Reports at given seconds, and the lines that they print."""
    monitor = TerminalMonitor(None)

    def report(at: float, done: int, total: int = 12, stage: str = "cards") -> list[str]:
        monkeypatch.setattr(console.time, "monotonic", lambda: at)
        monitor.update(stage, done, total)
        return [line.strip() for line in capsys.readouterr().err.splitlines()]

    return report


def test_a_stage_says_where_it_is_and_what_is_left(said) -> None:
    assert said(0, 0) == ["cards 0 of 12"], "a stage is announced when it begins"
    assert said(1, 1) == []
    assert said(30, 3) == ["cards 3 of 12, 1:30 left"]
    assert said(31, 12) == ["cards 12 of 12"], "the end is always told"


def test_time_left_is_reckoned_from_where_a_stage_was_resumed(said) -> None:
    assert said(0, 9) == ["cards 9 of 12"]
    assert said(20, 10) == ["cards 10 of 12, 0:40 left"]


def test_a_stage_that_begins_anew_is_timed_anew(said) -> None:
    said(0, 0)
    said(100, 12)
    assert said(200, 0) == ["cards 0 of 12"]
    assert said(202, 1) == ["cards 1 of 12, 0:22 left"]


def test_the_same_stage_of_other_work_is_timed_anew(said) -> None:
    """Where reports are sampled, the first that is heard of need not be that of its beginning."""
    said(0, 0)
    said(100, 12)
    assert said(200, 4) == ["cards 4 of 12"]
    assert said(204, 5) == ["cards 5 of 12, 0:28 left"]
    said(300, 12)
    assert said(400, 12, total=20) == ["cards 12 of 20"]
    assert said(404, 13, total=20) == ["cards 13 of 20, 0:28 left"]


def test_steps_are_counted_to_their_total() -> None:
    seen = []

    class Watch:
        def update(self, stage: str, done: int, total: int, **figures: float) -> None:
            seen.append((stage, done, total))

    steps = Steps(Watch(), "s", 3)
    steps.advance()
    steps.advance(2)
    assert seen == [("s", 0, 3), ("s", 1, 3), ("s", 3, 3)]
