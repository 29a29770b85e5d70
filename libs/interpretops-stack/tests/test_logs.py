"""What processes write, as people read it."""

from interpretops_stack.log_files import LogReader, merged, rotate
from interpretops_stack.log_lines import parse, render

JSON = (
    '{"time": "2026-01-01T12:00:00.250+00:00", "level": "warning", "event": "slow", '
    '"service": "tracer", "logger": "x", "trace_id": "abcdef0123456789", "seconds": 3.5, '
    '"error": "Traceback\\nValueError: no"}'
)


def test_a_json_line_becomes_one_readable_line_with_its_traceback_below():
    line = parse("tracer", JSON)
    assert (line.level, line.event, line.time) == ("warning", "slow", 1767268800.25)
    first, *below = render(line).plain.split("\n")
    assert first.endswith("tracer           warning slow  seconds=3.5  trace=abcdef01")
    assert [part.strip() for part in below] == ["Traceback", "ValueError: no"]


def test_lines_of_the_servers_are_understood():
    postgres = parse("postgres", "2026-01-01 12:00:00.250 UTC [42] FATAL:  the disk is full")
    assert (postgres.level, postgres.event) == ("error", "the disk is full")
    assert postgres.time == 1767268800.25
    valkey = parse("valkey", "42:M 01 Jan 2026 12:00:00.250 # Out of memory")
    assert (valkey.level, valkey.event) == ("warning", "Out of memory")


def test_a_line_that_says_no_time_stays_behind_the_one_before():
    first = parse("tracer", JSON)
    assert parse("tracer", "  File x, line 1", first).time == first.time
    assert parse("tracer", '{"broken', first).event == '{"broken'


def test_logs_are_merged_in_order_of_time(tmp_path):
    def line(second: int, event: str) -> str:
        return f'{{"time": "2026-01-01T12:00:{second:02d}+00:00", "level": "info", "event": "{event}"}}\n'

    (tmp_path / "a.log").write_text(line(1, "one") + line(4, "four"))
    (tmp_path / "b.log").write_text(line(2, "two") + line(3, "three"))
    paths = [tmp_path / "a.log", tmp_path / "b.log"]
    found = merged(paths, lines=3, follow=False, stop=lambda: True)
    assert [each.event for each in found] == ["two", "three", "four"]


def test_a_reader_goes_on_across_a_rotation(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\ntw")
    reader = LogReader(path)
    assert [line.event for line in reader.last(10)] == ["one"]
    with path.open("a") as writer:
        writer.write("o\n")
        writer.flush()
        assert [line.event for line in reader.new()] == ["two"]
        assert rotate(path, max_bytes=5)
        writer.write("three\n")
    assert [line.event for line in reader.new()] == ["three"]
    assert (tmp_path / "a.log.1").read_text() == "one\ntwo\n"


def test_only_the_newest_logs_are_kept(tmp_path):
    path = tmp_path / "a.log"
    for number in range(5):
        path.write_text(f"{number}" * 10)
        assert rotate(path, max_bytes=5, kept=3)
    assert not rotate(path, max_bytes=5, kept=3)
    kept = {each.name: each.read_text()[0] for each in tmp_path.iterdir() if each.stat().st_size}
    assert kept == {"a.log.1": "4", "a.log.2": "3", "a.log.3": "2"}
