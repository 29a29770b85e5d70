"""The whole job on the real model, in one process. Several minutes: `make test-slow`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.real_model]


def run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demonstration has run once."""
    home = tmp_path_factory.mktemp("demo")
    first = run(home, "-m", "interpretops", "demo", "--local")
    assert first.returncode == 0, first.stderr
    return home


def test_the_card_is_whole_and_says_what_was_met(home: Path) -> None:
    card = json.loads((home / "demo" / "risk_card.json").read_text())
    names = {criterion["name"] for criterion in card["win_line"]}
    assert {"defense_efficacy", "collateral_damage", "circuit_stability"} <= names
    for criterion in card["win_line"]:
        value = criterion["value"]
        assert value["low"] <= value["value"] <= value["high"]
        assert value["n"] > 0
    assert card["defense_efficacy"]["value"] >= 0.5


def test_a_second_run_reuses_every_artifact(home: Path) -> None:
    before = sorted(p.name for p in (home / ".io_cache" / "artifacts").iterdir())
    again = run(home, "-m", "interpretops", "demo", "--local")
    assert again.returncode == 0, again.stderr
    assert sorted(p.name for p in (home / ".io_cache" / "artifacts").iterdir()) == before


def test_the_report_verifies(home: Path) -> None:
    assert (home / "demo" / "report.pdf").read_bytes().startswith(b"%PDF-")
    assert run(home, "-m", "interpretops", "artifacts", "verify").returncode == 0


def test_the_example_of_the_front_page_runs_as_written(home: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example is not None
    result = run(home, "-c", example[1])
    assert result.returncode == 0, result.stderr
    assert "Baseline:" in result.stdout
    assert "Steered:" in result.stdout
