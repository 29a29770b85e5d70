"""What sequences begin with is run once, and every forward goes on from there.

Prompts behind one system turn share dozens of tokens: half of all where questions are short.
"""

from __future__ import annotations

from functools import cached_property
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
    """Reads sites on sequences that begin alike; what they share is run when the first of them are read.

    Args:
        model: The model.
        sequences: All that will be read.
        sites: Where to read; forwards stop after the last of them.
    """

    def __init__(
        self, model: HookedModel, sequences: Iterable[list[int]], sites: Sequence[Address]
    ) -> None:
        self._model, self._sites = model, list(sites)
        self._tokens = shared_beginning(model, sequences, self._sites)

    @cached_property
    def _begun(self) -> tuple[Prefix, dict[Address, torch.Tensor]]:
        values = self._model.capture(self._batch([self._tokens]), self._sites)
        return Prefix.run(self._model, self._tokens), values

    def capture(
        self, sequences: Sequence[Sequence[int]], *, width: int = 0
    ) -> dict[Address, torch.Tensor]:
        """Activations of whole sequences, `[batch, seq, width of the site]`, padded on the right.

        Values at padding positions are meaningless.

        Args:
            sequences: Token ids.
            width: Tokens to pad to, if that is more than the longest sequence has.
        """
        if not self._tokens:
            return self._model.capture(self._batch(sequences, width), self._sites)
        prefix, before = self._begun
        rest = [sequence[prefix.length :] for sequence in sequences]
        batch = self._batch(rest, max(0, width - prefix.length))
        found = self._model.capture(batch, self._sites, after=prefix)
        return {
            address: torch.cat([before[address].expand(len(rest), -1, -1), values], dim=1)
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
