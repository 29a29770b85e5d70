"""An error a user can cause is one line that names the fix."""

from interpretops.errors import Cancelled, InterpretOpsError


def test_an_error_is_one_line_that_names_the_fix() -> None:
    error = InterpretOpsError("the file\n  is empty.", fix="give it  a line.")
    assert str(error) == "the file is empty. Fix: give it a line."


def test_a_stop_says_how_to_go_on() -> None:
    assert "run the same command again" in str(Cancelled("tracing"))
