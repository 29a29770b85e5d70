"""What a search or a fit has computed so far, kept so that the next run does not compute it again."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from interpretops.artifacts import Draft

Tensors = dict[str, "torch.Tensor"]


class Journal:
    """Tensors and texts by what they are the result of, in a folder of a draft's working state.

    Args:
        draft: Of the work; without one nothing is kept.
        name: Tells this journal from others of the same draft.
    """

    def __init__(self, draft: Draft | None = None, name: str = "journal") -> None:
        self._draft = draft
        self._name = name

    def part(self, i: int) -> Journal:
        """A journal within this one."""
        return Journal(self._draft, f"{self._name}/{i}")

    def recall(
        self, what: str, make: Callable[[], Tensors], device: torch.device | str = "cpu"
    ) -> Tensors:
        """What an earlier run computed, or else what `make` does, kept for the next.

        Args:
            what: What determines the result, besides what determines the draft.
            make: Computes it.
            device: Where a result that was kept is read to.
        """
        if self._draft is None:
            return make()
        file = f"{self._file(what)}.safetensors"
        kept = _read(self._draft.path / file, device)
        if kept is None:
            kept = make()
            self._draft.write_tensors(file, kept)
        return kept

    def recall_texts(self, what: str, make: Callable[[], list[str]]) -> list[str]:
        """The same for texts."""
        if self._draft is None:
            return make()
        file = f"{self._file(what)}.json"
        path = self._draft.path / file
        if path.is_file():
            kept: list[str] = json.loads(path.read_bytes())
            return kept
        made = make()
        self._draft.write_bytes(file, json.dumps(made).encode())
        return made

    def _file(self, what: str) -> str:
        return f".{self._name}/{hashlib.sha256(what.encode()).hexdigest()[:32]}"


NO_JOURNAL = Journal()
"""Keeps nothing."""


def _read(path: Path, device: torch.device | str) -> Tensors | None:
    if not path.is_file():
        return None
    try:
        return load_file(path, device=str(device))
    except SafetensorError:  # damaged on disk: compute it again
        return None
