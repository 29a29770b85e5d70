"""What sequences begin with is run once, and every forward goes on from there.

Prompts behind one system turn share dozens of tokens: half of all where questions are short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from interpretops.models import Batch, Prefix, common_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from interpretops.models import Address, HookedModel

_WORTHWHILE = 8
"""Tokens below which going on from a cache, with its mask, costs what it spares."""
_WHOLE_ONLY = frozenset({"attn_probs", "attn_scores", "value"})
"""Sites that are put together from a forward over whole sequences."""


def shared_beginning(
    model: HookedModel, sequences: Iterable[list[int]], sites: Sequence[Address]
) -> list[int]:
    """Tokens that all sequences begin with, leaving at least one of each; none where that spares nothing.

    Args:
        model: The model that is to run them.
        sequences: Token ids.
        sites: Where it is to be read.
    """
    recurrent = any(model.arch.is_linear_attention_layer(i) for i in range(model.n_layers))
    if recurrent or any(address.name in _WHOLE_ONLY for address in sites):
        return []
    found = common_prefix(_outermost(sequences))
    return found if len(found) >= _WORTHWHILE else []


def _outermost(sequences: Iterable[list[int]]) -> tuple[list[int], list[int]]:
    """The first and the last sequence in alphabetical order: all others begin as these two do."""
    ordered = iter(sequences)
    first = last = next(ordered)
    for sequence in ordered:
        first, last = min(first, sequence), max(last, sequence)
    return first, last


class Beginning:
    """Reads sites on sequences that begin alike.

    Args:
        model: The model.
        tokens: What the sequences begin with; may be none.
        sites: Where to read; forwards stop after the last of them.
    """

    def __init__(self, model: HookedModel, tokens: Sequence[int], sites: Sequence[Address]) -> None:
        self._model, self._sites = model, list(sites)
        self._length = len(tokens)
        self._prefix = Prefix.run(model, tokens) if tokens else None
        self._values = model.capture(self._batch([tokens]), self._sites) if tokens else {}

    def capture(
        self, sequences: Sequence[Sequence[int]], *, width: int = 0
    ) -> dict[Address, torch.Tensor]:
        """Activations of whole sequences, `[batch, seq, width of the site]`, padded on the right.

        Values at padding positions are meaningless.

        Args:
            sequences: Token ids.
            width: Tokens to pad to, if that is more than the longest sequence has.
        """
        rest = [sequence[self._length :] for sequence in sequences]
        batch = self._batch(rest, max(0, width - self._length))
        found = self._model.capture(batch, self._sites, after=self._prefix)
        return {
            address: torch.cat([self._values[address].expand(len(rest), -1, -1), values], dim=1)
            if self._values
            else values
            for address, values in found.items()
        }

    def _batch(self, rows: Sequence[Sequence[int]], width: int = 0) -> Batch:
        return Batch.from_ids(
            rows,
            pad_id=self._model.pad_id,
            padding_side="right",
            device=self._model.device,
            pad_to=width,
        )
