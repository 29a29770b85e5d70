"""A trace that was made: activations mapped from disk, and what each row of them belongs to."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file

from interpretops.artifacts import ArtifactKind, Handle
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, site
from interpretops.prompts import Prompt, PromptSet
from interpretops.tracing.spec import Positions, StoredDtype, TraceSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from interpretops.artifacts import Manifest

INDEX = "index.json"
TOKENS = "tokens.safetensors"
PROMPTS = "prompts.jsonl"


class Shard(BaseModel):
    """One file of activations and how many rows of each site it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    rows: int


class TraceIndex(BaseModel):
    """What a trace's folder holds.

    Attributes:
        spec: What was asked for.
        sites: Width of each site.
        rows: Rows of each site, over all shards.
        dtype: Type of the values.
        positions: Which tokens have rows.
        chat_template_sha256: Of the template that was applied; None when none was.
        prompt_source: Where the prompts came from.
        redacted: Kinds of personal information that were scrubbed; None when none were looked for.
        shards: The files, in row order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: TraceSpec
    sites: dict[str, int]
    rows: int
    dtype: StoredDtype
    positions: Positions
    chat_template_sha256: str | None
    prompt_source: str
    redacted: tuple[str, ...] | None
    shards: tuple[Shard, ...]


class Activations:
    """The rows of one site, `[rows, width]`, read from memory-mapped files when asked for.

    Index it with a row number, a slice, or row numbers in any order. A slice inside one shard is a
    view of the mapped file; everything else is a copy of just those rows.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard], name: str, width: int) -> None:
        self._folder = folder
        self._shards = shards
        self._name = name
        self._starts = torch.tensor([0, *(shard.rows for shard in shards)]).cumsum(0)
        self._open: dict[int, torch.Tensor] = {}
        self.shape = (int(self._starts[-1]), width)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values."""
        return self._shard(0).dtype

    def _shard(self, number: int) -> torch.Tensor:
        if number not in self._open:
            path = self._folder / self._shards[number].file
            with safe_open(path, framework="pt") as file:
                self._open[number] = file.get_tensor(self._name)
        return self._open[number]

    def __getitem__(self, which: int | slice | Sequence[int] | torch.Tensor) -> torch.Tensor:
        if isinstance(which, int):
            if not -len(self) <= which < len(self):
                raise IndexError(f"row {which} of {len(self)}")
            return self._gather(torch.tensor([which % len(self)]))[0]
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            if step == 1:
                return self._range(start, max(start, stop))
            return self._gather(torch.arange(len(self))[which])
        rows = torch.as_tensor(which, dtype=torch.int64)
        if rows.numel() and not bool(((rows >= 0) & (rows < len(self))).all()):
            raise IndexError(f"row numbers go from 0 to {len(self) - 1}")
        return self._gather(rows)

    def _range(self, start: int, stop: int) -> torch.Tensor:
        parts = []
        for number in range(len(self._shards)):
            first, end = int(self._starts[number]), int(self._starts[number + 1])
            if first < stop and start < end:
                parts.append(self._shard(number)[max(start - first, 0) : stop - first])
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts) if parts else self._shard(0)[:0]

    def _gather(self, rows: torch.Tensor) -> torch.Tensor:
        found = torch.empty((len(rows), self.shape[1]), dtype=self.dtype)
        shard_of = torch.searchsorted(self._starts, rows.contiguous(), right=True) - 1
        for number in sorted(set(shard_of.tolist())):
            here = (shard_of == number).nonzero()[:, 0]
            found[here] = self._shard(number)[rows[here] - self._starts[number]]
        return found

    def chunks(self) -> Iterator[torch.Tensor]:
        """The rows shard by shard, each a view of its file that is unmapped when dropped."""
        for shard in self._shards:
            with safe_open(self._folder / shard.file, framework="pt") as file:
                yield file.get_tensor(self._name)


class Trace(Handle):
    """Activations at chosen sites for a set of prompts.

    A prompt's rows are consecutive, in token order; prompts are not in their original order.
    """

    kind = ArtifactKind.TRACE

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        super().__init__(manifest, folder)
        self.index = TraceIndex.model_validate_json((folder / INDEX).read_bytes())

    @property
    def spec(self) -> TraceSpec:
        """What was asked for."""
        return self.index.spec

    @property
    def sites(self) -> list[Address]:
        """The sites that were read."""
        return [site(name) for name in self.index.sites]

    def __len__(self) -> int:
        """Rows per site."""
        return self.index.rows

    @cached_property
    def prompts(self) -> PromptSet:
        """The prompts, as they were after redaction."""
        lines = (self.folder / PROMPTS).read_bytes().split(b"\n")
        return PromptSet(
            prompts=tuple(Prompt.model_validate_json(line) for line in lines if line),
            source=self.index.prompt_source,
            redacted=self.index.redacted,
            redactions=dict(self.manifest.redactions),
        )

    @cached_property
    def _tokens(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / TOKENS)

    def tokens(self, prompt: int) -> torch.Tensor:
        """Token ids of one prompt, template included, `[seq]` int64."""
        start = self._tokens["start"]
        return self._tokens["ids"][int(start[prompt]) : int(start[prompt + 1])].long()

    def rows(self, prompt: int) -> range:
        """The rows that belong to one prompt."""
        start = int(self._tokens["row_start"][prompt])
        return range(start, start + int(self._tokens["row_count"][prompt]))

    @cached_property
    def prompt_index(self) -> torch.Tensor:
        """Which prompt each row belongs to, `[rows]` int64."""
        order = self._tokens["row_start"].argsort()
        return order.repeat_interleave(self._tokens["row_count"][order].long())

    @cached_property
    def position_index(self) -> torch.Tensor:
        """Which token of its prompt each row belongs to, `[rows]` int64."""
        prompt = self.prompt_index
        within = torch.arange(len(self)) - self._tokens["row_start"][prompt]
        return within + self._tokens["first_position"][prompt]

    def activations(self, where: str | Address) -> Activations:
        """All rows of a site, mapped from disk.

        Raises:
            InterpretOpsError: When the trace has no such site.
        """
        name = str(site(where))
        if name not in self.index.sites:
            raise InterpretOpsError(
                f"trace {self.id} has no site {name} (it has {', '.join(self.index.sites)})",
                fix="choose one of those, or trace again with this site",
            )
        return Activations(self.folder, self.index.shards, name, self.index.sites[name])

    def batches(
        self, where: str | Address, batch_size: int, seed: int, *, skip: int = 0
    ) -> Iterator[torch.Tensor]:
        """One pass over all rows of a site in a random order that is uniform over all rows.

        The order depends on the seed and the number of rows alone, so iterating several sites with
        one seed side by side gives the same rows of each.

        Args:
            where: The site.
            batch_size: Rows per batch; the last batch may have fewer.
            seed: Seed of the order.
            skip: Batches to leave out at the beginning, to go on after an interruption.

        Yields:
            `[batch_size, width]`.
        """
        found = self.activations(where)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        for start in range(skip * batch_size, len(order), batch_size):
            yield found[order[start : start + batch_size]]
