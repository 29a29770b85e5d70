"""The front page tells the truth: its commands parse, its settings and its policy are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from interpretops.cli.app import app
from interpretops.config import load_config
from interpretops.errors import InterpretOpsError
from interpretops.steering import load_policy

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS = [
    shlex.split(line, comments=True)
    for block in blocks("bash")
    for line in block.splitlines()
    if line.startswith("mechctl ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_a_command_has_the_verbs_and_options_it_is_shown_with(words: list[str]) -> None:
    command, rest = typer.main.get_command(app), words[1:]
    while rest[0].startswith("--"):  # options of mechctl itself, each with its value
        assert rest[0] in {name for option in command.params for name in option.opts}, words
        rest = rest[2:]
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, words
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.make_context("mechctl", list(rest))  # raises when an option is unknown
    assert context.params


def test_every_verb_of_the_main_line_is_shown() -> None:
    shown = {" ".join(words[1:3] if words[1] == "policy" else words[1:2]) for words in COMMANDS}
    assert shown >= {"trace", "sae-train", "search", "policy propose", "steer", "eval", "report"}


def test_the_targets_of_make_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:^|`|: )make ([a-z-]+)", PAGE, re.MULTILINE)
    assert named
    assert set(named) <= set(targets)


def test_links_into_the_project_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_settings_and_policy_are_valid_and_the_error_is_the_one_shown(tmp_path: Path) -> None:
    settings, policy = blocks("yaml")
    (tmp_path / "config.yaml").write_text(settings)
    assert load_config(tmp_path / "config.yaml").compliance.pii_redaction
    path = tmp_path / "policy.yaml"
    path.write_text(policy)
    assert load_policy(path).meta.id == "jailbreak-v1"
    path.write_text(policy.replace("clamp_range", "clamp_rnge"))
    with pytest.raises(InterpretOpsError) as caught:
        load_policy(path)
    shown = re.search(r"^`(policy\.yaml:.*)`$", PAGE, re.MULTILINE)
    assert shown is not None
    assert str(caught.value).startswith(f"{tmp_path}/{shown[1]}")
