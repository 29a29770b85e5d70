"""Activations as an endless, reproducible stream of rows: from a model as it runs, or from memory.

A stream is addressed by row number. Each epoch visits every row once, in an order fixed by the seed
and the epoch's number, so any range of the stream can be made again at any time. A training run
that was killed therefore needs no copy of its buffer: it asks for the same range and gets the same
rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from typing_extensions import override

from interpretops.errors import InterpretOpsError
from interpretops.models import Beginning, run_batched
from interpretops.progress import SILENT, Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from interp_engine import Address

    from interpretops.models import HookedModel
    from interpretops.sae.token_stream import TokenStream
    from interpretops.tracing import Activations, Trace


STAGE = "reading activations"
_CPU_FORWARD_TOKENS = 512


class ActivationSource(Protocol):
    """Rows of activations at several sites, numbered without end.

    Attributes:
        widths: Width of each site.
        n_rows: Rows per epoch.
    """

    widths: dict[Address, int]
    n_rows: int

    def rows(self, start: int, stop: int) -> dict[Address, Tensor]:
        """Rows `start` to `stop` of the stream at every site, `[stop - start, width]` float32.

        The order within the range is fixed but not random; callers mix it.
        """
        ...


class TensorActivations(ActivationSource):
    """Activations that are already there: tensors in memory, or mapped from a trace's shards.

    Args:
        tensors: `[n, width]` per site, the same `n` for all.
        seed: Decides the order of each epoch.
        only: Row numbers to use; all by default.
    """

    def __init__(
        self,
        tensors: Mapping[Address, Tensor | Activations],
        seed: int = 0,
        *,
        only: Tensor | None = None,
    ) -> None:
        self._tensors = dict(tensors)
        self._seed = seed
        self.widths = {address: int(t.shape[1]) for address, t in self._tensors.items()}
        n = min(int(t.shape[0]) for t in self._tensors.values())
        self._only = torch.arange(n) if only is None else only
        self.n_rows = int(self._only.shape[0])

    @classmethod
    def from_trace(
        cls,
        trace: Trace,
        sites: Sequence[Address],
        *,
        prompts: Tensor,
        skip_positions: int,
        seed: int,
    ) -> TensorActivations:
        """The rows of some of a trace's prompts, read from its shards as they are needed.

        Args:
            trace: The trace.
            sites: Which of its sites.
            prompts: Which of its prompts.
            skip_positions: Positions left out at the beginning of each prompt.
            seed: Decides the order of each epoch.
        """
        used = torch.isin(trace.prompt_index, prompts) & (trace.position_index >= skip_positions)
        return cls(
            {address: trace.activations(address) for address in sites},
            seed,
            only=used.nonzero().flatten(),
        )

    @override
    def rows(self, start: int, stop: int) -> dict[Address, Tensor]:
        picked = torch.cat(
            [
                epoch_order(self.n_rows, self._seed, epoch)[first:last]
                for epoch, first, last in _epochs(start, stop, self.n_rows)
            ]
        )
        # Ascending access is what memory-mapped shards serve fast.
        picked = self._only[picked].sort().values
        return {address: t[picked].float() for address, t in self._tensors.items()}


class ModelActivations(ActivationSource):
    """Activations computed from a model while they are needed.

    The order is random by sequence and consecutive within a sequence. A range that begins or ends
    inside a sequence computes the whole sequence.

    Args:
        model: The model.
        stream: Its input.
        sites: Where to read; the forward stops after the last of them.
        skip_positions: Positions left out at the beginning of each sequence.
        forward_tokens: Tokens per forward; halved when memory runs out.
        seed: Decides the order of each epoch.
        monitor: Told of the rows of a range that are done, after each forward.

    Raises:
        InterpretOpsError: When the model lacks one of the sites, or the stream has no token left.
    """

    def __init__(
        self,
        model: HookedModel,
        stream: TokenStream,
        sites: Sequence[Address],
        *,
        skip_positions: int = 1,
        forward_tokens: int = 4096,
        seed: int = 0,
        monitor: Monitor = SILENT,
    ) -> None:
        self._monitor = monitor
        self._model, self._stream, self._sites = model, stream, list(sites)
        self._beginning = Beginning(model, map(stream.row, range(len(stream))), sites)
        self._skip, self._forward_tokens, self._seed = skip_positions, forward_tokens, seed
        self._lengths = (stream.lengths - skip_positions).clamp(min=0)
        self.n_rows = int(self._lengths.sum())
        if self.n_rows == 0:
            raise InterpretOpsError(
                f"no sequence of {stream.source} is longer than {skip_positions} tokens",
                fix="give longer texts, or lower skip_positions",
            )
        probe = self._beginning.capture([stream.row(0)])
        self.widths = {address: int(probe[address].shape[-1]) for address in self._sites}

    @override
    def rows(self, start: int, stop: int) -> dict[Address, Tensor]:
        wanted = list(self._spans(start, stop))
        # Longest first: the batch that needs most memory fails at once, and padding stays small.
        by_length = sorted(range(len(wanted)), key=lambda i: -len(self._row(wanted[i])))
        places = [0]
        for _, first, last in wanted:
            places.append(places[-1] + last - first)
        device = self._model.device
        out = {
            address: torch.empty(stop - start, width, device=device)
            for address, width in self.widths.items()
        }
        longest = max(len(self._row(span)) for span in wanted)
        done = 0

        def run(chunk: Sequence[int]) -> list[None]:
            rows = [self._row(wanted[i]) for i in chunk]
            found = self._beginning.capture(rows)
            for address, values in found.items():
                for j, i in enumerate(chunk):
                    _, first, last = wanted[i]
                    # Right padding: position p of the sequence is index p of the row.
                    out[address][places[i] : places[i + 1]] = values[
                        j, self._skip + first : self._skip + last
                    ]
            nonlocal done
            done += sum(wanted[i][2] - wanted[i][1] for i in chunk)
            self._monitor.update(STAGE, done, stop - start)
            return [None] * len(chunk)

        self._monitor.update(STAGE, 0, stop - start)
        run_batched(by_length, run, sequences_at_a_time(device, self._forward_tokens, longest))
        return out

    def _row(self, span: tuple[int, int, int]) -> list[int]:
        return self._stream.row(span[0])

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The sequences that make up a range: index, first and last row taken of each."""
        for epoch, first, last in _epochs(start, stop, self.n_rows):
            order = epoch_order(len(self._stream), self._seed, epoch)
            ends = self._lengths[order].cumsum(0)
            place = int(torch.searchsorted(ends, first, right=True))
            position = first
            while position < last:
                index, end = int(order[place]), int(ends[place])
                begin = end - int(self._lengths[index])
                upto = min(end, last)
                if upto > position:
                    yield index, position - begin, upto - begin
                position, place = upto, place + 1


def sequences_at_a_time(device: torch.device, forward_tokens: int, longest: int) -> int:
    """How many sequences of up to `longest` tokens make one forward of `forward_tokens`.

    On a CPU a forward gets 512 tokens at most: more are no faster there, and keep whoever watches
    or stops the work waiting for seconds.
    """
    if device.type == "cpu":
        forward_tokens = min(forward_tokens, _CPU_FORWARD_TOKENS)
    return max(1, forward_tokens // longest)


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of `n` things in an epoch, `[n]` int64."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def _epochs(start: int, stop: int, n_rows: int) -> Iterator[tuple[int, int, int]]:
    """A range of the stream as epochs: number, first and last row within each."""
    while start < stop:
        epoch, first = divmod(start, n_rows)
        last = min(n_rows, first + stop - start)
        yield epoch, first, last
        start += last - first
