"""What sequences begin with is run once, and every forward goes on from there.

Prompts behind one system turn share dozens of tokens: half of all where questions are short.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

from interpretops.models.batch import Batch
from interpretops.models.prefix import WORTH_SHARING, Prefix, common_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from interp_engine import Address

    from interpretops.models.hooked import HookedModel

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
    return found if len(found) >= WORTH_SHARING else []


def _outermost(sequences: Iterable[list[int]]) -> tuple[list[int], list[int]]:
    """The first and the last sequence in alphabetical order: all others begin as these two do.

    Both are empty where there are none.
    """
    ordered = iter(sequences)
    first = last = next(ordered, [])
    for sequence in ordered:
        first, last = min(first, sequence), max(last, sequence)
    return first, last


class Beginning:
    """Reads sites on sequences that begin alike; what they share is run when it is first needed.

    Args:
        model: The model.
        sequences: All that will be read.
        sites: Where to read; forwards stop after the last of them.

    Attributes:
        tokens: What all sequences begin with; none where sharing it spares nothing.
    """

    def __init__(
        self, model: HookedModel, sequences: Iterable[list[int]], sites: Sequence[Address]
    ) -> None:
        self._model, self._sites = model, list(sites)
        self.tokens = shared_beginning(model, sequences, self._sites)

    @cached_property
    def values(self) -> dict[Address, torch.Tensor]:
        """Activations of the shared tokens, `[1, seq, width of the site]`."""
        return self._model.capture(self._batch([self.tokens]), self._sites)

    @cached_property
    def _prefix(self) -> Prefix:
        return Prefix.run(self._model, self.tokens)

    def capture_rest(
        self, sequences: Sequence[Sequence[int]], *, width: int = 0
    ) -> dict[Address, torch.Tensor]:
        """Activations of what sequences have of their own, padded on the right.

        Values at padding positions are meaningless.

        Args:
            sequences: Token ids, from the beginning.
            width: Tokens to pad to, if that is more than the longest sequence has.

        Returns:
            `[batch, seq less the shared tokens, width of the site]` each.
        """
        shared = len(self.tokens)
        rest = self._batch([sequence[shared:] for sequence in sequences], max(0, width - shared))
        return self._model.capture(rest, self._sites, after=self._prefix if shared else None)

    def capture(
        self, sequences: Sequence[Sequence[int]], *, width: int = 0
    ) -> dict[Address, torch.Tensor]:
        """Activations of whole sequences, `[batch, seq, width of the site]`; see `capture_rest`."""
        rest = self.capture_rest(sequences, width=width)
        if not self.tokens:
            return rest
        return {
            address: torch.cat([self.values[address].expand(len(values), -1, -1), values], dim=1)
            for address, values in rest.items()
        }

    def _batch(self, rows: Sequence[Sequence[int]], width: int = 0) -> Batch:
        return Batch.from_ids(
            rows,
            pad_id=self._model.pad_id,
            padding_side="right",
            device=self._model.device,
            pad_to=width,
        )
