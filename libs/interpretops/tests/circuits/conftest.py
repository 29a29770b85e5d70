"""A contrast that suits the byte tokenizer of the tiny models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from interpretops.circuits import ContrastPair, ContrastTask

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def letters() -> Callable[..., ContrastTask]:
    """Build a task of `AAAA 07` against `ZZZZ 07`: `letters(16)`.

    Twins have equal length and end alike, so nothing but heads and MLPs tells them apart at the last
    position. Refusing and complying openings are single bytes.
    """

    def make(pairs: int = 16, stem: str = "") -> ContrastTask:
        return ContrastTask(
            risk_class="letters",
            pairs=tuple(
                ContrastPair(risky=f"AAAA {i:02d}", harmless=f"ZZZZ {i:02d}") for i in range(pairs)
            ),
            stem=stem,
            refuse=("n", "x"),
            comply=("y",),
        )

    return make
