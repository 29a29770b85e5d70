"""Prompts that are run once, and answered as often as one likes.

What a policy does at a prompt's end does not change what comes before it. So several policies, and the
bare model, can go on from one reading of the same prompts: each runs the last few tokens again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from interpretops.errors import InterpretOpsError
from interpretops.models.batch import Batch
from interpretops.models.forward import Forward
from interpretops.models.prefix import WORTH_SHARING, common_prefix, whole_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interp_engine import Address
    from transformers import DynamicCache

    from interpretops.models.hooked import HookedModel


@dataclass(frozen=True)
class ReadPrompts:
    """Prompts that have been run. In columns: what all begin with, then the left-padded rest of each.

    Attributes:
        model: The model that read them.
        rest: What is each prompt's own.
        shared: How many tokens all begin with.
        cache: Keys and values of all columns.
        logits: `[batch, vocab]` at each prompt's last token.
        captured: `[batch, columns, width]` at the sites that were asked for.
    """

    model: HookedModel
    rest: Batch
    shared: int
    cache: DynamicCache
    logits: torch.Tensor
    captured: dict[Address, torch.Tensor]

    def __len__(self) -> int:
        return len(self.rest)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [self.shared + int(length) for length in self.rest.lengths]

    @property
    def mask(self) -> torch.Tensor:
        """`[batch, columns]` int64, 1 at real tokens."""
        before = self.rest.attention_mask.new_ones(len(self), self.shared)
        return torch.cat([before, self.rest.attention_mask], dim=1)

    @property
    def positions(self) -> torch.Tensor:
        """`[batch, columns]` int64, of each token in its prompt."""
        before = torch.arange(self.shared, device=self.model.device).expand(len(self), -1)
        return torch.cat([before, self.rest.position_ids + self.shared], dim=1)

    @property
    def forward(self) -> Forward:
        """The forward that has run, for what looks at `captured`."""
        last = torch.tensor(self.lengths, device=self.model.device)[:, None] - 1
        return Forward(self.mask.bool(), self.positions - last)

    def rows(self, which: Sequence[int]) -> ReadPrompts:
        """Some of the prompts."""
        index = torch.tensor(list(which), device=self.model.device)
        cache = whole_cache()
        for number, layer in enumerate(self.cache.layers):
            cache.update(layer.keys[index], layer.values[index], number)
        return replace(
            self,
            rest=self.rest.rows(index),
            cache=cache,
            logits=self.logits[index],
            captured={site: found[index] for site, found in self.captured.items()},
        )

    def again(self, tail: int) -> ReadPrompts:
        """The same prompts with their last `tail` tokens run again, under the hooks in force."""
        cut = max(self.shared, self.shared + self.rest.input_ids.shape[1] - tail)
        ends = slice(cut - self.shared, None)
        whole = self.forward
        cache = whole_cache()
        for number, layer in enumerate(self.cache.layers):
            cache.update(layer.keys[:, :, :cut], layer.values[:, :, :cut], number)
        with torch.inference_mode():
            logits = self.model.forward(
                self.rest.input_ids[:, ends],
                attention_mask=self.mask if self.rest.padded else None,
                position_ids=self.positions[:, cut:],
                cache=cache,
                logits_to_keep=1,
                running=Forward(whole.real[:, cut:], whole.offset[:, cut:]),
            )[:, -1]
        return replace(self, cache=cache, logits=logits, captured={})

    def logits_of(self, answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits that predict each token of given answers, `[batch, longest, vocab]`.

        Args:
            answers: Token ids, at least one for each prompt; what is predicted behind an answer's end
                means nothing.
        """
        device = self.model.device
        after = Batch.from_ids(
            answers, pad_id=self.model.pad_id, padding_side="right", device=device
        )
        longest = after.input_ids.shape[1]
        if longest == 1:
            return self.logits[:, None]
        cache = whole_cache()
        for number, layer in enumerate(self.cache.layers):
            cache.update(layer.keys, layer.values, number)
        begin = torch.tensor(self.lengths, device=device)[:, None]
        with torch.inference_mode():
            found = self.model.forward(
                after.input_ids[:, :-1],
                attention_mask=torch.cat([self.mask, after.attention_mask[:, :-1]], dim=1),
                position_ids=begin + torch.arange(longest - 1, device=device),
                cache=cache,
            )
        return torch.cat([self.logits[:, None], found], dim=1)


def read_prompts(
    model: HookedModel,
    batch: Batch,
    *,
    again: int | None = None,
    sites: Sequence[Address] = (),
) -> ReadPrompts:
    """Run prompts, under the hooks in force.

    Args:
        model: The model.
        batch: Left-padded prompts.
        again: How many last tokens of each may be run again. What all prompts begin with before these
            is then run once, which must not be where hooks act on them. None runs every prompt whole.
        sites: Where to capture activations.

    Raises:
        InterpretOpsError: When the batch is padded on the right.
    """
    if batch.padding_side != "left" and batch.padded:
        raise InterpretOpsError(
            "generation needs left padding", fix="encode with padding_side='left'"
        )
    beginning = [] if again is None else _beginning(model, batch, again)
    cache, before = whole_cache(), dict[str, torch.Tensor]()
    if beginning:
        alone = Batch.from_ids([beginning], pad_id=model.pad_id, device=model.device)
        _, before = _run(model, alone, 0, cache, sites)
        for layer in cache.layers:
            layer.keys = layer.keys.expand(len(batch), -1, -1, -1)
            layer.values = layer.values.expand(len(batch), -1, -1, -1)
        rows = [row[len(beginning) :] for row in _rows(batch)]
        batch = Batch.from_ids(rows, pad_id=model.pad_id, device=model.device)
    logits, own = _run(model, batch, len(beginning), cache, sites)
    captured = {
        site: torch.cat([before[str(site)].expand(len(batch), -1, -1), own[str(site)]], dim=1)
        if beginning
        else own[str(site)]
        for site in sites
    }
    return ReadPrompts(model, batch, len(beginning), cache, logits, captured)


def _run(
    model: HookedModel, batch: Batch, shared: int, cache: DynamicCache, sites: Sequence[Address]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits at the last token, and what is at the sites, of a batch that follows `shared` tokens."""
    found: dict[str, torch.Tensor] = {}
    mask = None
    if batch.padded:
        seen = batch.attention_mask.new_ones(len(batch), shared)
        mask = torch.cat([seen, batch.attention_mask], dim=1)
    with torch.inference_mode(), model.hooks() as hooks:
        for site in sites:
            hooks.keep(site, found, str(site))
        logits = model.forward(
            batch.input_ids,
            attention_mask=mask,
            position_ids=batch.position_ids + shared,
            cache=cache,
            logits_to_keep=1,
            running=Forward.over(batch),
        )[:, -1]
    return logits, found


def _rows(batch: Batch) -> list[list[int]]:
    return [
        ids[-length:]
        for ids, length in zip(batch.input_ids.tolist(), batch.lengths.tolist(), strict=True)
    ]


def _beginning(model: HookedModel, batch: Batch, again: int) -> list[int]:
    """What the prompts of a batch begin with, where running it once saves anything."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    # Padding in between counts as distance, so that a window would hold less of a prompt.
    if len(batch) == 1 or (window is not None and batch.input_ids.shape[1] > window):
        return []
    rows = _rows(batch)
    found = common_prefix(rows)[: max(0, min(map(len, rows)) - again)]
    return found if len(found) >= WORTH_SHARING else []
