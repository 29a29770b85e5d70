"""One `config.yaml` for the engine and the platform, strictly read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from interpretops.config import Config, load_config
from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_file_everything_has_a_default() -> None:
    assert load_config(None) == Config()


def test_sections_of_the_platform_are_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {device: cpu}\njobs: {lease_seconds: 60}\ndatabase: {pool_size: 3}\n")
    assert load_config(path).model.device == "cpu"


def test_an_unknown_section_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {device: cpu}\ncomplience: {pii_redaction: false}\n")
    with pytest.raises(InterpretOpsError, match=r"config.yaml:2.*complience.*compliance"):
        load_config(path)
