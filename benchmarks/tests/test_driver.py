import json
import tempfile

import pytest

from benchmarks import driver
from benchmarks.driver import run_row
from benchmarks.parity import SameArrays
from benchmarks.results import machine, merge, table
from benchmarks.rows import ROWS, Case, Comparison, Contestant, Row


@pytest.fixture
def diary(tmp_path):
    return tmp_path / "diary"


@pytest.fixture
def fake(diary):
    def contestant(name, **options):
        defaults = {"name": name, "logit": 1.0, "factor": 1.0, "diary": str(diary)}
        return Contestant(name, "fake", options=defaults | options, package="benchmarks.tests")

    return contestant


def measure(*contestants, rounds=6, comparisons=(), **changes):
    row = Row(
        name="fake",
        title="Sleeping",
        contestants=contestants,
        cases=(Case("short", {"sleep": 0.004}, comparisons, rounds=rounds),),
        gate=SameArrays("floor"),
        **changes,
    )
    with tempfile.TemporaryFile("w") as log:
        return row, run_row(row, {}, log=log, say=lambda text: None)


def test_repetitions_are_interleaved_one_of_each_per_round(fake, diary):
    _, result = measure(fake("floor"), fake("a"), fake("b"))
    order = diary.read_text().split()
    rounds = [order[i : i + 3] for i in range(0, len(order), 3)]
    assert len(rounds) == driver.WARM_UPS + 6
    assert all(sorted(each) == ["a", "b", "floor"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1, "the order is drawn anew"
    seconds = result["cases"]["short"]["seconds"]
    assert {name: len(values) for name, values in seconds.items()} == {"floor": 6, "a": 6, "b": 6}


def test_warm_ups_are_run_but_not_counted(fake):
    _, result = measure(fake("floor"))
    details = result["cases"]["short"]["details"]["floor"]
    assert details["repetitions"] == driver.WARM_UPS + 6


def test_the_gate_keeps_a_differing_contestant_from_being_timed(fake, diary):
    _, result = measure(fake("floor"), fake("peer", logit=1.001))
    assert "not compared: logits differ" in result["left_out"]["peer"]
    assert result["gate"]["peer"]["logits"] == pytest.approx(1e-3, rel=0.01)
    assert "peer" not in diary.read_text()


def test_a_gate_held_last_times_first_and_still_leaves_out(fake, diary):
    comparison = Comparison("speedup", "floor", "peer")
    _, result = measure(
        fake("floor"), fake("peer", logit=2.0), comparisons=(comparison,), gate_last=True
    )
    assert "peer" in diary.read_text()
    assert "peer" in result["left_out"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fails": True}, "ValueError: no such model"),
        ({"dies": True}, "its process ended with code 3"),
    ],
)
def test_a_contestant_that_cannot_load_is_left_out_with_the_reason(fake, options, reason):
    _, result = measure(fake("floor"), fake("peer", **options))
    assert result["left_out"] == {"peer": f"not run: {reason}"}
    assert "floor" in result["cases"]["short"]["seconds"]


def test_a_missing_environment_is_a_reason_and_not_a_crash(fake):
    lacking = Contestant("peer", "fake", environment="never-made", package="benchmarks.tests")
    _, result = measure(fake("floor"), lacking)
    assert "environment" in result["left_out"]["peer"]


def test_a_contestant_that_is_unable_leaves_the_others_running(fake):
    _, result = measure(fake("floor"), fake("peer", unable=True))
    case = result["cases"]["short"]
    assert case["unable"] == {"peer": "one prompt at a time"}
    assert list(case["seconds"]) == ["floor"]


def test_the_table_says_what_was_measured(fake, tmp_path, monkeypatch):
    comparisons = (
        Comparison("speedup", "floor", "slow", 2.0),
        Comparison("overhead", "slow", "floor", 1.1),
    )
    row, result = measure(
        fake("floor"), fake("slow", factor=5.0), fake("odd", logit=9.0), comparisons=comparisons
    )
    monkeypatch.setitem(ROWS, "fake", row)
    path = tmp_path / "results.json"
    merge(path, "fake", machine("cpu"), result)
    text = table(json.loads(path.read_text()))
    faster, slower = (line for line in text.splitlines() if line.startswith("| slow / floor |"))
    assert "≥ 2 | win; aim met" in faster
    assert "≤ 1.1 | loss; aim missed" in slower
    assert "- odd: not compared: logits differ" in text


def test_cases_measured_at_different_times_end_up_in_one_file(fake, tmp_path):
    path = tmp_path / "results.json"
    about = machine("cpu")
    _, result = measure(fake("floor"), rounds=2)
    merge(path, "fake", about, result)
    merge(path, "fake", about, result | {"cases": {"long": result["cases"]["short"]}})
    merge(path, "fake", about | {"gpu": "G"}, result)
    merge(path, "fake", about, result)  # gives way to nothing but itself
    found = [(m["case"], m["machine"].get("gpu")) for m in json.loads(path.read_text())]
    assert sorted(found, key=str) == [("long", None), ("short", "G"), ("short", None)]
