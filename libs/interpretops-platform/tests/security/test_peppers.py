"""Peppers come from a private file, newest first, and do not show themselves."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from interpretops_platform.errors import SettingsError
from interpretops_platform.security.peppers import Peppers

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = b"\x01" * 32, b"\x02" * 32
ENCODED_OLD, ENCODED_NEW = (base64.b64encode(pepper).decode() for pepper in (OLD, NEW))


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_created_file_reads_back_and_is_private(tmp_path: Path) -> None:
    made = Peppers.create(tmp_path / "peppers")
    read = Peppers.from_file(tmp_path / "peppers")
    assert read[read.current] == made[made.current]
    assert Peppers.create(tmp_path / "others").current != made.current
    assert (tmp_path / "peppers").stat().st_mode & 0o077 == 0


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    Peppers.create(tmp_path / "peppers")
    before = (tmp_path / "peppers").read_bytes()
    with pytest.raises(FileExistsError):
        Peppers.create(tmp_path / "peppers")
    assert (tmp_path / "peppers").read_bytes() == before


def test_the_first_line_is_current_and_the_others_stay_known(tmp_path: Path) -> None:
    read = Peppers.from_file(write(tmp_path / "peppers", f"{ENCODED_NEW}\n\n{ENCODED_OLD}\n"))
    assert read[read.current] == NEW
    assert read.get(Peppers([OLD]).current) == OLD
    assert Peppers([NEW]).get(Peppers([OLD]).current) is None


def test_they_do_not_show_themselves() -> None:
    assert repr(OLD) not in repr(Peppers([OLD]))
    assert Peppers([OLD]).current not in OLD


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "32 bytes"),
        ("QQ==\n", "32 bytes"),
        (f"{ENCODED_NEW}\nQQ==\n", "32 bytes"),
        ("not-base64!\n", "cannot be read"),
        ("é\n", "cannot be read"),
    ],
)
def test_mistakes_are_named_without_the_secret(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        Peppers.from_file(write(tmp_path / "peppers", text))
    assert ENCODED_NEW not in str(caught.value)


def test_a_file_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "peppers", ENCODED_NEW, mode=0o644)
    with pytest.raises(SettingsError, match="chmod"):
        Peppers.from_file(path)
    path.chmod(0o640)
    assert Peppers.from_file(path)[Peppers([NEW]).current] == NEW


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="absent cannot be read"):
        Peppers.from_file(tmp_path / "absent")
