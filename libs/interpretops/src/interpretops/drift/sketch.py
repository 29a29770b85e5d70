"""Distributions that add up: a histogram with buckets that everyone knows beforehand.

After DDSketch (Masson, Rim and Lee, VLDB 2019): a bucket is as wide as a fixed share of the values in
it. The values here are distances (from a condition's threshold, or of an activation from nothing), so
buckets are finest where decisions are made, at 0, and nobody has to guess a range. All sketches have
the same buckets; those of several processes, hours or versions are added and compared as they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

GAMMA = 1.02
"""Upper end of a bucket over its lower end."""
FLOOR = 1e-3
"""Values nearer to 0 than this are all in bucket 0."""
_TOP = 1e6
"""Values further away than this are all in the last bucket."""
_LOG_GAMMA = math.log(GAMMA)
LAST = 1 + math.floor(math.log(_TOP / FLOOR) / _LOG_GAMMA)
"""The last bucket, which bounds a sketch at `2 * LAST + 1` of them."""


class Sketch(BaseModel):
    """How often values fell into which bucket.

    Attributes:
        counts: From a bucket's index to its count, without empty ones. Index 0 holds what is nearer
            to 0 than `FLOOR`; index `i > 0` holds `[FLOOR * GAMMA**(i - 1), FLOOR * GAMMA**i)`, and
            `-i` the same of negative values.
    """

    model_config = ConfigDict(extra="forbid")

    counts: dict[int, int] = Field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many values it holds."""
        return sum(self.counts.values())

    @property
    def above(self) -> int:
        """How many values were above 0 (by `FLOOR` at least)."""
        return sum(count for index, count in self.counts.items() if index > 0)

    def add(self, value: float) -> None:
        """Count a value; one that is no number is left out."""
        if value == value:  # not NaN
            index = bucket(value)
            self.counts[index] = self.counts.get(index, 0) + 1

    @classmethod
    def of(cls, values: Iterable[float]) -> Sketch:
        """The sketch of some values."""
        made = cls()
        for value in values:
            made.add(float(value))
        return made

    def merge(self, other: Sketch) -> None:
        """Count what another one holds as well."""
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count

    def copied(self) -> Sketch:
        """The same, of its own."""
        return Sketch(counts=dict(self.counts))

    def quantile(self, share: float) -> float | None:
        """The value below which a share of the values lies, to 2 %; None where there are none."""
        wanted, seen, n = share * self.n, 0, self.n
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= wanted and n:
                return middle(index)
        return None


def bucket(value: float) -> int:
    """The bucket of a value."""
    size = abs(value)
    if size < FLOOR:
        return 0
    # Clipped first: a value without bound has no logarithm that is a number.
    index = 1 + math.floor(math.log(min(size, _TOP) / FLOOR) / _LOG_GAMMA)
    return index if value > 0 else -index


def middle(index: int) -> float:
    """The value that stands for a bucket: no value in it is further away than 1 %."""
    if index == 0:
        return 0.0
    return math.copysign(FLOOR * GAMMA ** (abs(index) - 0.5), index)


def lower_end(index: int) -> float:
    """The lower end of a bucket."""
    if index > 0:
        return FLOOR * GAMMA ** (index - 1)
    return -FLOOR * GAMMA ** (-index)


def aligned(sketches: Sequence[Sketch]) -> tuple[list[int], NDArray[np.int64]]:
    """Buckets that any of the sketches uses, in order, and their counts `[sketches, buckets]`."""
    used = sorted({index for sketch in sketches for index in sketch.counts})
    table = [[sketch.counts.get(index, 0) for index in used] for sketch in sketches]
    return used, np.array(table, dtype=np.int64).reshape(len(sketches), len(used))
