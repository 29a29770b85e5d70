"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
SaeOption = Annotated[
    str | None,
    typer.Option(
        "--sae",
        help="The dictionary whose features it names; meta.dictionary by default.",
        show_default=False,
    ),
]
