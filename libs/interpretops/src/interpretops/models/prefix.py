"""The beginning of prompts, computed once.

A chat template puts the same tokens before every prompt (its system turn). Where nothing is written
to them, their keys and values are the same for all prompts; and where nothing that differs between runs
comes before some token of each prompt, they are the same in all runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from interpretops.models.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpretops.models.hooked import HookedModel

WORTH_SHARING = 8
"""Tokens below which going on from a cache, with its mask, costs what it spares."""


def common_prefix(rows: Sequence[Sequence[int]]) -> list[int]:
    """Tokens that all rows begin with, leaving at least one token of every row."""
    if not rows:
        return []
    columns = zip(*(row[:-1] for row in rows), strict=False)
    return [column[0] for column in takewhile(lambda c: len(set(c)) == 1, columns)]


def whole_cache() -> DynamicCache:
    """A cache that keeps every token, also of layers whose attention slides over a window.

    One that knows the configuration drops what has left the window, and what is kept could then not
    be put at its place again. The window itself is in the attention mask.
    """
    return DynamicCache()


@dataclass(frozen=True)
class Prefix:
    """Tokens that were run through the model, ready to be gone on from.

    Attributes:
        length: Number of tokens.
        layers: Keys and values of each layer, `[rows, kv_heads, length, head_dim]`, of one row where all
            prompts begin with the same. Layers that hooks kept from running hold zeros, whose length is
            what masks are made from.
    """

    length: int
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    @classmethod
    def run(cls, model: HookedModel, tokens: Sequence[int]) -> Prefix:
        """Run tokens that begin every sequence; none is fine."""
        if not tokens:
            return cls(0, ())
        return cls.of(model, Batch.from_ids([tokens], pad_id=model.pad_id, device=model.device))

    @classmethod
    def of(cls, model: HookedModel, batch: Batch) -> Prefix:
        """Run a batch that begins its rows; one of no columns is fine."""
        length = batch.input_ids.shape[1]
        if not length:
            return cls(0, ())
        cache = whole_cache()
        with torch.no_grad():
            model.forward(
                batch.input_ids,
                attention_mask=batch.attention_mask if batch.padded else None,
                position_ids=batch.position_ids,
                cache=cache,
                logits_to_keep=1,
            )
        nothing = torch.zeros(len(batch), 1, length, 1, dtype=model.dtype, device=model.device)
        layers = [(nothing, nothing)] * model.n_layers
        for number, layer in enumerate(cache.layers):
            if layer.keys is not None:
                layers[number] = (layer.keys, layer.values)
        return cls(length, tuple(layers))

    def cache(self, rows: int) -> DynamicCache:
        """A cache of this prefix for a batch of `rows`, which a forward may extend."""
        cache = whole_cache()
        for layer, (keys, values) in enumerate(self.layers):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        return cache
