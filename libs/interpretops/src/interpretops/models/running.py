"""Keys and values of the rows that run, in buffers with room, so that no step copies them.

Rows are aligned at their ends: a row of `length` tokens holds them at `[end - length, end)`, and a
step writes one more at `end`. To the model this is an ordinary left-padded batch, so its own masks
hold, windows that slide included. A row that joins is copied in once; where one leaves, the last row
takes its place, so that the rows that run stay together. Positions only grow; where in memory they
are is each buffer's own affair, so that one whose growth fails leaves the others as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models import HookedModel

_LEAST_FREE, _MOST_FREE = 64, 1024
"""Positions kept free behind the longest row: more copies less often, and takes more memory."""


@dataclass
class _Window:
    """What a forward sees: rows `[low, high)`, and their positions `[start, end]`."""

    low: int = 0
    high: int = 0
    start: int = 0
    end: int = 0


class _Buffer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, `[rows, kv_heads, room, head_dim]`.

    Position `p` is at index `p - base`.
    """

    is_sliding = False  # every token is kept; a window that slides is in the mask

    def __init__(self, window: _Window) -> None:
        super().__init__()
        self.window = window
        self.base = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """An empty buffer of the layer's shape and type."""
        self.keys, self.values = key_states[:0], value_states[:0]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token per row at the end of the window, and give the window."""
        w, rows = self.window, slice(self.window.low, self.window.high)
        at = w.end - self.base
        self.keys[rows, :, at] = key_states[:, :, 0]
        self.values[rows, :, at] = value_states[:, :, 0]
        seen = slice(w.start - self.base, at + 1)
        return self.keys[rows, :, seen], self.values[rows, :, seen]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a forward attends to, and where they begin."""
        return self.window.end - self.window.start + query_length, 0

    def get_seq_length(self) -> int:
        """Positions before the token that comes."""
        return self.window.end - self.window.start

    def get_max_length(self) -> int:
        """There is no limit."""
        return -1

    def take(self, row: int, keys: torch.Tensor, values: torch.Tensor, *, ahead: int = 0) -> None:
        """Copy a row's keys and values `[kv_heads, length, head_dim]` in, `ahead` before the end."""
        end = self.window.end - self.base - ahead
        held = slice(end - keys.shape[1], end)
        self.keys[row, :, held], self.values[row, :, held] = keys, values

    def move(self, row: int, to: int, length: int) -> None:
        """Copy a row's tokens to another row."""
        end = self.window.end - self.base
        held = slice(end - length, end)
        self.keys[to, :, held] = self.keys[row, :, held]
        self.values[to, :, held] = self.values[row, :, held]

    def fit(self, rows: int, first: int, last: int, held: int, live: int) -> None:
        """Make place for so many rows and the positions `[first, last)`.

        Args:
            rows: How many rows must fit.
            first: The first position that must fit.
            last: The position after the last that must fit.
            held: How many rows hold tokens that must stay.
            live: The first position of them.
        """
        capacity, room = self.keys.shape[0], self.keys.shape[2]
        if rows <= capacity and first >= self.base and last <= self.base + room:
            return
        end = self.window.end
        if rows <= capacity and last - first <= room:
            for tensor in (self.keys, self.values):
                _shift(tensor[:held], live - self.base, live - first, end - live)
        else:
            free = min(max((last - first) // 2, _LEAST_FREE), _MOST_FREE)
            rows = max(capacity, 1 << (rows - 1).bit_length())
            # Both before either is let go. Zeros, because what a mask hides must still be finite.
            keys, values = (
                old.new_zeros(rows, old.shape[1], last - first + free, old.shape[3])
                for old in (self.keys, self.values)
            )
            if held:
                old, new = (
                    slice(live - self.base, end - self.base),
                    slice(live - first, end - first),
                )
                keys[:held, :, new] = self.keys[:held, :, old]
                values[:held, :, new] = self.values[:held, :, old]
            self.keys, self.values = keys, values
        self.base = first


def _shift(tensor: torch.Tensor, old: int, new: int, length: int) -> None:
    """Move `length` positions of a tensor `[rows, heads, room, dim]` within it, in place."""
    step = abs(old - new)
    starts = range(0, length, step)
    # In pieces no longer than the distance, so that none is written over before it is read.
    for start in starts if new < old else reversed(starts):
        size = min(step, length - start)
        piece = tensor[:, :, old + start : old + start + size]
        tensor[:, :, new + start : new + start + size] = piece


class RunningCache:
    """Keys and values of the rows that run.

    Args:
        model: The model they belong to.

    Raises:
        InterpretOpsError: When the model keeps other state than keys and values.
    """

    def __init__(self, model: HookedModel) -> None:
        _require_keys_and_values(model)
        self._device = model.device
        self._window = _Window()
        self._buffers: list[_Buffer] = []
        self._lengths: list[int] = []
        self._on_device = torch.zeros(0, 1, dtype=torch.int64)
        self._index = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self._lengths, default=0)

    def join(
        self,
        prompts: Cache,
        rows: Sequence[int],
        lengths: Sequence[int],
        *,
        shared: int = 0,
    ) -> None:
        """Append rows of a left-padded batch of prompts that has been run.

        Args:
            prompts: Its keys and values.
            rows: Which of its rows.
            lengths: Real tokens of each of them.
            shared: How many tokens all of them begin with: they come before the padding.

        Raises:
            RuntimeError: When memory runs out; the rows that run are as before.
        """
        first, needed = len(self), max(*lengths, self.longest)
        if not self._buffers:
            self._buffers = [_Buffer(self._window) for _ in prompts.layers]
            for buffer, layer in zip(self._buffers, prompts.layers, strict=True):
                buffer.lazy_initialization(layer.keys, layer.values)
        end = self._window.end
        self._fit(first + len(rows), end - needed, end + 1)
        for buffer, layer in zip(self._buffers, prompts.layers, strict=True):
            for at, row, length in zip(range(first, first + len(rows)), rows, lengths, strict=True):
                own = length - shared
                if shared:
                    before = layer.keys[row, :, :shared], layer.values[row, :, :shared]
                    buffer.take(at, *before, ahead=own)
                if own:
                    buffer.take(at, layer.keys[row, :, -own:], layer.values[row, :, -own:])
        self._lengths.extend(lengths)
        self._tell_device()

    def leave(self, row: int) -> None:
        """Take a row out; the last one takes its place."""
        last = len(self) - 1
        if row != last:
            for buffer in self._buffers:
                buffer.move(last, row, self._lengths[last])
            self._lengths[row] = self._lengths[last]
        self._lengths.pop()
        if not self._lengths:
            self._buffers = []  # nobody knows how long the next prompts are
        self._tell_device()

    def make_room(self) -> None:
        """Make sure that one more token per row fits.

        Raises:
            RuntimeError: When memory runs out; the rows that run are as before.
        """
        end = self._window.end
        self._fit(len(self), end - self.longest, end + 1)

    def view(self, low: int, high: int) -> tuple[Cache, torch.Tensor | None, torch.Tensor]:
        """What a forward over one token of each of some rows needs.

        Args:
            low: The first row.
            high: The row after the last.

        Returns:
            A cache, the attention mask `[rows, seen + 1]` (None where nothing is padded), and the
            positions `[rows, 1]`.
        """
        w, lengths = self._window, self._lengths[low:high]
        w.low, w.high, w.start = low, high, w.end - max(lengths)
        positions, seen = self._on_device[low:high], max(lengths)
        mask = None
        if min(lengths) < seen:
            if self._index.numel() <= seen:
                self._index = torch.arange(2 * seen + 1, device=self._device)
            mask = (self._index[: seen + 1] >= seen - positions).long()
        return Cache(layers=self._buffers), mask, positions

    def advance(self) -> None:
        """Every row has one more token."""
        self._lengths = [length + 1 for length in self._lengths]
        self._on_device = self._on_device + 1
        self._window.end += 1

    def _fit(self, rows: int, first: int, last: int) -> None:
        live = self._window.end - self.longest
        for buffer in self._buffers:
            buffer.fit(rows, first, last, len(self), live)

    def _tell_device(self) -> None:
        lengths = torch.tensor(self._lengths, dtype=torch.int64)[:, None]
        self._on_device = lengths.to(self._device)


def _require_keys_and_values(model: HookedModel) -> None:
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    for layer in DynamicCache(config=model.config.get_text_config()).layers:
        if type(layer) not in known:
            raise InterpretOpsError(
                f"{model.name} has layers that keep a {type(layer).__name__}, and rows of such a "
                "model cannot join or leave a batch that runs",
                fix="use a model whose layers are attention layers",
            )


def bytes_per_token(model: HookedModel) -> int:
    """Memory that one token of one row takes in the cache."""
    return 2 * model.n_layers * model.n_kv_heads * model.head_dim * model.dtype.itemsize
