"""What to trace."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interpretops.models import SiteNames

Positions = Literal["all", "last", "prompt"]
StoredDtype = Literal["float32", "bfloat16", "float16"]


class TraceSpec(BaseModel):
    """Which activations to keep, and how.

    Everything that can change a stored value or the layout of the files is here, so that two runs
    of one spec on the same prompts and model write the same bytes, interrupted or not.

    Attributes:
        sites: Where to read, such as `resid_post.12`.
        positions: `all` tokens of the sequence; only the `last` one, where the answer is about to
            begin; or those of the user's own `prompt`, without the chat template around it.
        dtype: Type of the stored values.
        chat: Whether to apply the model's chat template, if it has one.
        system: A system turn before each prompt.
        max_tokens: Longest sequence to accept; the model's context by default.
        truncate: Whether to cut a longer prompt at its end (the template around it stays whole)
            instead of refusing it.
        batch_tokens: Tokens of one forward, padding included.
        batch_size: Prompts of one forward, at most.
        shard_mb: Size of one file in MiB. Host memory is bounded by it: about three shards and one
            batch, besides the model and the prompts' own text and token ids, however many they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sites: SiteNames
    positions: Positions = "all"
    dtype: StoredDtype = "float32"
    chat: bool = True
    system: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    truncate: bool = False
    batch_tokens: int = Field(default=4096, ge=1)
    batch_size: int = Field(default=32, ge=1)
    shard_mb: float = Field(default=64.0, gt=0.0)
