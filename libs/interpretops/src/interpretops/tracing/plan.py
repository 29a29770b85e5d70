"""Which prompts share a forward, and which forwards share a file: a pure function of the lengths.

A resumed run must compose the same batches at the same padding, because the padded length and the
number of rows decide how a matrix product is blocked, and with it the last bits of its result.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class PlannedBatch:
    """One forward.

    Attributes:
        prompts: Indices of its prompts.
        width: Padded length in tokens; it stays when the batch is halved for lack of memory.
        rows: Rows of activations it gives.
    """

    prompts: tuple[int, ...]
    width: int
    rows: int


@dataclass(frozen=True)
class PlannedShard:
    """One file: consecutive batches."""

    batches: tuple[PlannedBatch, ...]

    @property
    def rows(self) -> int:
        """Rows of activations it holds."""
        return sum(batch.rows for batch in self.batches)


@dataclass(frozen=True)
class Plan:
    """All forwards in the order in which they are run and stored."""

    shards: tuple[PlannedShard, ...]

    def row_starts(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row at which each prompt's rows begin, `[prompts]`, given its number of rows."""
        order = [p for shard in self.shards for batch in shard.batches for p in batch.prompts]
        starts = np.empty(len(counts), dtype=np.int64)
        starts[order] = np.cumsum(counts[order]) - counts[order]
        return starts


def make_plan(
    lengths: Sequence[int],
    counts: Sequence[int],
    *,
    batch_tokens: int,
    batch_size: int,
    shard_rows: int,
) -> Plan:
    """Group prompts of like length into batches, shuffle the batches, and cut them into shards.

    The shuffle (with a fixed seed) makes a shard a fair sample of the prompts and lets the time
    left be told from the first minutes.

    Args:
        lengths: Tokens of each prompt.
        counts: Rows each prompt gives.
        batch_tokens: Padded tokens of a batch, at most (a longer prompt is alone).
        batch_size: Prompts of a batch, at most.
        shard_rows: Rows of a shard, at most (a prompt with more has a shard of its own).
    """
    batches: list[PlannedBatch] = []
    group: list[int] = []
    rows = 0

    def close() -> None:
        nonlocal rows
        if group:
            batches.append(PlannedBatch(tuple(group), int(lengths[group[-1]]), rows))
        group.clear()
        rows = 0

    for prompt in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        too_many = len(group) == batch_size
        too_wide = (len(group) + 1) * lengths[prompt] > batch_tokens
        if too_many or too_wide or rows + counts[prompt] > shard_rows:
            close()
        group.append(prompt)
        rows += int(counts[prompt])
    close()
    random.Random(0).shuffle(batches)

    shards: list[PlannedShard] = []
    current: list[PlannedBatch] = []
    filled = 0
    for batch in batches:
        if current and filled + batch.rows > shard_rows:
            shards.append(PlannedShard(tuple(current)))
            current, filled = [], 0
        current.append(batch)
        filled += batch.rows
    shards.append(PlannedShard(tuple(current)))
    return Plan(tuple(shards))
