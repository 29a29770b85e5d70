"""The section `steering` of the settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class SteeringSettings(BaseModel):
    """Which models answer under policies, and how much each of them takes on.

    Attributes:
        models: From the name that requests give to the model that is loaded at the start; by
            default that of `model.name`, under the last part of it.
        max_rows: Answers that one model writes at once.
        max_tokens: Tokens that are kept of them: rows times the longest, with all of its answer.
        max_waiting: Requests that wait for a place.
        prefill_tokens: Prompt tokens that are read between two steps of those that run.
        resident_policies: Policies that are kept ready; the one unused for longest goes first.
        resolve_seconds: How long it is not asked again which version of a policy is active.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[Annotated[str, Field(min_length=1, max_length=512)], str] = {}
    max_rows: int = Field(default=32, ge=1, le=4096)
    max_tokens: int = Field(default=65_536, ge=1)
    max_waiting: int = Field(default=256, ge=1)
    prefill_tokens: int = Field(default=2048, ge=1)
    resident_policies: int = Field(default=1000, ge=1)
    resolve_seconds: float = Field(default=1, ge=0, le=1)
