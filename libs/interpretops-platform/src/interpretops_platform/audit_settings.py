"""Where the heads of audit chains are noted."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AuditSettings(BaseModel):
    """Anchors of the audit log, out of reach of whoever takes over the database.

    Attributes:
        anchor_bucket: A bucket with Object Lock and a default retention, on the S3 server that
            `objects` names and with its credentials.
        anchor_folder: A folder instead. It shows a chain that was rewritten as long as the folder
            itself was not.
        anchor_every_minutes: How often the keeper walks the chains and notes their heads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    anchor_bucket: str | None = Field(default=None, pattern="^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    anchor_folder: Path | None = None
    anchor_every_minutes: float = Field(default=60, gt=0, le=7 * 24 * 60)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.anchor_bucket is not None and self.anchor_folder is not None:
            raise ValueError("anchor_bucket and anchor_folder exclude one another")
        return self
