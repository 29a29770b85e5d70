"""The programs of the kit, where they are called wrongly."""

import pytest
from interpretops_service.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "nothing"], "no service 'nothing' is installed"),
        (["work", "nothing"], "no handler of jobs of kind 'nothing' is installed"),
        (["serve", "tracer", "--config", "nowhere.yaml"], "there is no settings file"),
    ],
)
def test_what_is_set_up_wrong_is_said_in_a_line(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Fix:" in error
    assert "Traceback" not in error
