"""A padded batch of token sequences, and the loop that survives running out of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")
PaddingSide = Literal["left", "right"]


@dataclass(frozen=True)
class Batch:
    """Token sequences of one length after padding.

    Attributes:
        input_ids: `[batch, seq]` int64.
        attention_mask: `[batch, seq]` int64, 1 at real tokens.
        position_ids: `[batch, seq]` int64, counted from 0 at each row's first real token, so that a
            prompt's values do not depend on how it is padded.
        prompt_lengths: `[batch]` int64, real tokens that belong to the prompt (the rest of a row is
            its continuation).
        padding_side: Where the padding is.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    prompt_lengths: torch.Tensor
    padding_side: PaddingSide

    @classmethod
    def from_ids(
        cls,
        rows: Sequence[Sequence[int]],
        *,
        pad_id: int,
        padding_side: PaddingSide = "left",
        prompt_lengths: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
        pad_to: int = 0,
    ) -> Batch:
        """Pad rows of token ids to the longest of them (or to `pad_to`, if that is more).

        Raises:
            InterpretOpsError: When there are no rows or one of them is empty.
        """
        if not rows or any(len(row) == 0 for row in rows):
            raise InterpretOpsError(
                "a prompt holds no tokens" if rows else "there are no prompts",
                fix="give at least one prompt, each with at least one character",
            )
        width = max(pad_to, *(len(row) for row in rows))
        ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
        mask = torch.zeros((len(rows), width), dtype=torch.int64)
        for i, row in enumerate(rows):
            where = slice(width - len(row), width) if padding_side == "left" else slice(len(row))
            ids[i, where] = torch.tensor(row, dtype=torch.int64)
            mask[i, where] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        lengths = prompt_lengths if prompt_lengths is not None else [len(row) for row in rows]
        return cls(
            ids.to(device),
            mask.to(device),
            positions.to(device),
            torch.tensor(list(lengths), dtype=torch.int64, device=device),
            padding_side,
        )

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    @property
    def lengths(self) -> torch.Tensor:
        """Real tokens per row, `[batch]`."""
        return self.attention_mask.sum(-1)

    @property
    def first(self) -> torch.Tensor:
        """Index of each row's first real token, `[batch]`."""
        return self.attention_mask.argmax(-1)

    @property
    def last(self) -> torch.Tensor:
        """Index of each row's last real token, `[batch]`."""
        return self.first + self.lengths - 1

    @property
    def last_prompt(self) -> torch.Tensor:
        """Index of each row's last prompt token, `[batch]`: where the answer is about to begin."""
        return self.first + self.prompt_lengths - 1

    @property
    def padded(self) -> bool:
        """Whether any row has padding."""
        return not bool(self.attention_mask.all())

    def at(self, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Pick one position per row: `[batch, seq, ...]` at `[batch]` gives `[batch, ...]`."""
        return values[torch.arange(len(self), device=values.device), index.to(values.device)]

    def rows(self, which: Sequence[int] | torch.Tensor) -> Batch:
        """Some of the rows, at the same padding."""
        picked = torch.as_tensor(which, device=self.input_ids.device)
        return replace(
            self,
            input_ids=self.input_ids[picked],
            attention_mask=self.attention_mask[picked],
            position_ids=self.position_ids[picked],
            prompt_lengths=self.prompt_lengths[picked],
        )

    def split(self, column: int) -> tuple[Batch, Batch]:
        """The columns before one of them, and the rest, which keeps its positions."""
        before = torch.minimum(self.attention_mask[:, :column].sum(-1), self.prompt_lengths)

        def part(columns: slice, lengths: torch.Tensor) -> Batch:
            return replace(
                self,
                input_ids=self.input_ids[:, columns],
                attention_mask=self.attention_mask[:, columns],
                position_ids=self.position_ids[:, columns],
                prompt_lengths=lengths,
            )

        return part(slice(column), before), part(slice(column, None), self.prompt_lengths - before)


def run_batched(
    items: Sequence[Item], run: Callable[[Sequence[Item]], Sequence[Result]], batch_size: int
) -> list[Result]:
    """Apply `run` to chunks of `items`, halving the chunk and going on when memory runs out.

    Args:
        items: What to work through, in order.
        run: Takes a chunk and returns one result per item.
        batch_size: Chunk size to begin with.

    Raises:
        InterpretOpsError: When a single item does not fit into memory.
    """
    results: list[Result] = []
    start, size = 0, max(1, batch_size)
    while start < len(items):
        chunk = items[start : start + size]
        try:
            results.extend(run(chunk))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(chunk) == 1:
                raise InterpretOpsError(
                    "one prompt alone does not fit into memory",
                    fix="shorten the longest prompt, or set model.dtype to bfloat16",
                ) from error
            size = max(1, len(chunk) // 2)
            continue
        start += len(chunk)
    return results


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is memory running out, as CUDA, the CPU allocator or Python say it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "out of memory" in text or "not enough memory" in text
    )
