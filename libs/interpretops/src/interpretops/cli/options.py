"""Options that several verbs share, and what they resolve to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from interpretops.artifacts import ArtifactStore
    from interpretops.config import Config
    from interpretops.models import HookedModel
    from interpretops.prompts import Redactor

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Settings file; sensible defaults without it.", show_default=False
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Also copy the result here.", show_default=False),
]


@dataclass(frozen=True)
class Workbench:
    """What a verb works with: the settings, the store, and the model once it is needed."""

    config: Config

    @classmethod
    def open(cls, config: Path | None) -> Workbench:
        """Read the settings.

        Raises:
            InterpretOpsError: When they are wrong.
        """
        from interpretops.config import load_config

        return cls(load_config(config))

    @cached_property
    def redactor(self) -> Redactor | None:
        """What scrubs personal information, where the settings ask for it."""
        from interpretops.prompts import Redactor

        return Redactor() if self.config.compliance.pii_redaction else None

    @property
    def redacted(self) -> tuple[str, ...] | None:
        """The kinds of personal information it looks for, for the record of what is made."""
        return None if self.redactor is None else tuple(k.value for k in self.redactor.kinds)

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifact store below `cache.dir`."""
        from interpretops.artifacts import ArtifactStore

        return ArtifactStore(self.config.cache.dir)

    @cached_property
    def model(self) -> HookedModel:
        """The model of the settings, loaded on first use."""
        from interpretops.cli.console import err

        with err.status(f"loading {self.config.model.name}"):
            from interpretops.models import HookedModel

            return HookedModel(
                self.config.model.name,
                dtype=self.config.model.dtype,
                device=self.config.model.device,
                cache_dir=self.config.cache.dir,
            )
