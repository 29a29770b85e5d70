"""Feature cards: where a feature is active, and which tokens it promotes and suppresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from interpretops.models import Batch, Beginning, run_batched
from interpretops.progress import SILENT, Monitor, Steps
from interpretops.sae.activations import sequences_at_a_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interp_engine import Address

    from interpretops.models import HookedModel
    from interpretops.sae.module import SAE
    from interpretops.sae.sparse_code import SparseCode
    from interpretops.sae.token_stream import TokenStream

STAGE = "describing features"
_FEATURES_AT_A_TIME = 128
BIN_RATIO = 2**0.5
"""Each bin of a histogram ends at this many times the activation at which it begins."""
_FIRST_BIN = 2.0**-10
_BINS = 48


class Context(BaseModel):
    """A stretch of text around a feature's peak.

    Attributes:
        tokens: The tokens as text.
        activations: The feature's activation on each.
        peak: Index of the largest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int


class TokenEffect(BaseModel):
    """A token and how much the feature's direction moves its logit (see `token_effects`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str
    logit: float


class Histogram(BaseModel):
    """How often a feature was how active, in bins of equal width on a logarithmic scale.

    Attributes:
        low: Where the first bin begins; bin `i` reaches from `low * ratio**i` to
            `low * ratio**(i + 1)`. What lies beyond the outermost bins is counted in them.
        ratio: Of a bin's end to its beginning.
        counts: Tokens in each bin; the first and the last one hold some.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    ratio: float
    counts: tuple[int, ...]


class FeatureCard(BaseModel):
    """What is known of one feature.

    Attributes:
        index: The feature.
        density: Share of tokens on which it is active.
        max_activation: Its largest activation seen.
        contexts: Where it was most active, one stretch per sequence, strongest first.
        promoted: Tokens its direction makes likelier, strongest first.
        suppressed: Tokens it makes less likely, strongest first.
        histogram: Its activations on the tokens where it was active; None in dictionaries that were
            made before it was counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    density: float
    max_activation: float
    contexts: tuple[Context, ...]
    promoted: tuple[TokenEffect, ...]
    suppressed: tuple[TokenEffect, ...]
    histogram: Histogram | None = None


@dataclass
class _Peaks:
    """The strongest activation of each feature in each of its best sequences.

    Attributes:
        value: `[d_sae, kept]`, strongest first, 0 where there are fewer.
        sequence: `[d_sae, kept]` which sequence.
        position: `[d_sae, kept]` which token of it.
        window: `[d_sae, kept, 2 * reach + 1]` the feature's activations around the peak.
        count: `[d_sae]` tokens on which each feature was active.
        bins: `[d_sae, bins]` the same by how active it was, int32.
    """

    value: Tensor
    sequence: Tensor
    position: Tensor
    window: Tensor
    count: Tensor
    bins: Tensor

    @classmethod
    def none(cls, d_sae: int, kept: int, reach: int) -> _Peaks:
        return cls(
            torch.zeros(d_sae, kept),
            torch.zeros(d_sae, kept, dtype=torch.int64),
            torch.zeros(d_sae, kept, dtype=torch.int64),
            torch.zeros(d_sae, kept, 2 * reach + 1),
            torch.zeros(d_sae, dtype=torch.int64),
            torch.zeros(d_sae, _BINS, dtype=torch.int32),
        )

    def add(self, code: SparseCode, sequence: Tensor, position: Tensor) -> None:
        """Take in the code of some whole sequences.

        Args:
            code: Activations of `n` tokens.
            sequence: `[n]` which sequence each token belongs to.
            position: `[n]` where in it; a sequence's tokens are consecutive.
        """
        positive = code.values > 0
        token = code.pattern.tokens[positive].cpu()
        feature = code.pattern.features[positive].cpu()
        value = code.values[positive].float().cpu()
        self.count.index_add_(0, feature, torch.ones_like(feature))
        octaves = torch.log2(value / _FIRST_BIN) / torch.log2(torch.tensor(BIN_RATIO))
        place = feature * _BINS + octaves.floor().long().clamp(0, _BINS - 1)
        ones = torch.ones(place.shape, dtype=torch.int32)
        self.bins.view(-1).index_add_(0, place, ones)
        if not token.numel():
            return
        n_tokens, kept = code.pattern.n_tokens, self.value.shape[1]
        # The strongest entry of each (feature, sequence): sort by strength, then by pair, stably.
        pair = feature * (int(sequence.max()) + 1) + sequence[token]
        order = value.argsort(stable=True)
        order = order[pair[order].argsort(stable=True)]
        last = torch.ones(order.shape[0], dtype=torch.bool)
        last[:-1] = pair[order][1:] != pair[order][:-1]
        best = order[last]
        # Of those, the strongest `kept` of each feature.
        best = best[value[best].argsort(descending=True, stable=True)]
        best = best[feature[best].argsort(stable=True)]
        begins = torch.searchsorted(feature[best], feature[best])
        rank = torch.arange(best.shape[0]) - begins
        best, rank = best[rank < kept], rank[rank < kept]
        found = _Peaks.none(self.value.shape[0], kept, self.window.shape[2] // 2)
        where = (feature[best], rank)
        found.value[where] = value[best]
        found.sequence[where] = sequence[token[best]]
        found.position[where] = position[token[best]]
        found.window[where] = _around(
            feature * n_tokens + token, value, feature[best], token[best], sequence, found.window
        )
        self._merge(found)

    def _merge(self, other: _Peaks) -> None:
        value = torch.cat([self.value, other.value], 1)
        order = value.argsort(dim=1, descending=True, stable=True)[:, : self.value.shape[1]]
        self.value = value.gather(1, order)
        for name in ("sequence", "position"):
            both = torch.cat([getattr(self, name), getattr(other, name)], 1)
            setattr(self, name, both.gather(1, order))
        windows = torch.cat([self.window, other.window], 1)
        self.window = windows.gather(1, order.unsqueeze(-1).expand(-1, -1, windows.shape[2]))


def _around(
    keys: Tensor, values: Tensor, feature: Tensor, token: Tensor, sequence: Tensor, like: Tensor
) -> Tensor:
    """A feature's activations on the tokens around each peak, 0 outside the peak's sequence.

    Args:
        keys: `[nnz]` `feature * n_tokens + token` of every active entry.
        values: `[nnz]` their activations.
        feature: `[peaks]`.
        token: `[peaks]`.
        sequence: `[n_tokens]` which sequence each token belongs to.
        like: Tensor whose last dimension is the window's width.

    Returns:
        `[peaks, width]`.
    """
    n_tokens, reach = sequence.shape[0], like.shape[-1] // 2
    sorted_keys, order = keys.sort()
    at = token.unsqueeze(1) + torch.arange(-reach, reach + 1)
    inside = (at >= 0) & (at < n_tokens)
    at = at.clamp(0, n_tokens - 1)
    inside &= sequence[at] == sequence[token].unsqueeze(1)
    wanted = feature.unsqueeze(1) * n_tokens + at
    place = torch.searchsorted(sorted_keys, wanted).clamp(max=keys.shape[0] - 1)
    hit = inside & (sorted_keys[place] == wanted)
    return values[order][place] * hit


@torch.no_grad()
def describe_features(
    model: HookedModel,
    saes: Mapping[Address, SAE],
    stream: TokenStream,
    *,
    max_tokens: int = 65_536,
    skip_positions: int = 1,
    contexts: int = 6,
    reach: int = 12,
    tokens_per_card: int = 10,
    forward_tokens: int = 4096,
    monitor: Monitor = SILENT,
) -> dict[Address, list[FeatureCard]]:
    """Make a card for each feature that was active on the text.

    Memory holds `contexts` peaks and their windows per feature, however long the text is.

    Args:
        model: The model.
        saes: A dictionary per site.
        stream: The text to search.
        max_tokens: Tokens searched, from the beginning.
        skip_positions: Positions left out at the beginning of each sequence.
        contexts: Contexts kept per feature, at most one from each sequence.
        reach: Tokens shown on each side of a peak.
        tokens_per_card: Promoted and suppressed tokens per feature.
        forward_tokens: Tokens per forward; halved when memory runs out.
        monitor: Told after each forward.

    Returns:
        Cards by site, in the order of features; features never active have none.
    """
    sites = list(saes)
    peaks = {a: _Peaks.none(sae.d_sae, contexts, reach) for a, sae in saes.items()}
    ends = stream.starts[1:]
    n_sequences = int(torch.searchsorted(ends, min(max_tokens, int(ends[-1])))) + 1
    beginning = Beginning(model, map(stream.row, range(n_sequences)), sites)

    def take_in(chunk: Sequence[int]) -> list[int]:
        rows = [stream.row(i) for i in chunk]
        batch = Batch.from_ids(rows, pad_id=model.pad_id, padding_side="right", device=model.device)
        used = (batch.attention_mask == 1) & (batch.position_ids >= skip_positions)
        found = beginning.capture(rows)
        sequence = torch.tensor(list(chunk)).unsqueeze(1).expand(used.shape)[used.cpu()]
        position = batch.position_ids[used].cpu()
        for address in sites:
            code = saes[address].to(model.device).encode_sparse(found[address][used])
            peaks[address].add(code, sequence, position)
        steps.advance(len(chunk))
        return used.sum(1).tolist()

    longest = int(stream.lengths[:n_sequences].max())
    at_a_time = sequences_at_a_time(model.device, forward_tokens, longest)
    steps = Steps(monitor, STAGE, n_sequences)
    # In order of length, so that batches hold little padding.
    by_length = sorted(range(n_sequences), key=lambda i: int(stream.lengths[i]))
    seen = sum(run_batched(by_length, take_in, at_a_time))
    active = {address: found.count.nonzero().flatten() for address, found in peaks.items()}
    steps = Steps(monitor, "writing feature cards", sum(map(len, active.values())))
    as_text = TokenTexts(model)
    cards: dict[Address, list[FeatureCard]] = {address: [] for address in sites}
    for address in sites:
        for block in torch.split(active[address], _FEATURES_AT_A_TIME):
            effects = token_effects(model, saes[address], block, tokens_per_card, as_text)
            cards[address] += _cards(peaks[address], block, effects, stream, seen, as_text)
            steps.advance(len(block))
    return cards


def _cards(
    peaks: _Peaks,
    features: Tensor,
    effects: list[Effects],
    stream: TokenStream,
    n_tokens: int,
    as_text: TokenTexts,
) -> list[FeatureCard]:
    reach = peaks.window.shape[2] // 2
    cards = []
    for place, feature in enumerate(features.tolist()):
        shown = []
        for rank in range(int((peaks.value[feature] > 0).sum())):
            row = stream.row(int(peaks.sequence[feature, rank]))
            position = int(peaks.position[feature, rank])
            first, last = max(0, position - reach), min(len(row), position + reach + 1)
            window = peaks.window[feature, rank, first - position + reach : last - position + reach]
            shown.append(
                Context(
                    tokens=tuple(as_text(row[first:last])),
                    activations=tuple(round(v, 4) for v in window.tolist()),
                    peak=position - first,
                )
            )
        promoted, suppressed = effects[place] if effects else ((), ())
        cards.append(
            FeatureCard(
                index=feature,
                density=float(peaks.count[feature]) / max(1, n_tokens),
                max_activation=round(float(peaks.value[feature, 0]), 4),
                contexts=tuple(shown),
                promoted=promoted,
                suppressed=suppressed,
                histogram=_histogram(peaks.bins[feature].tolist()),
            )
        )
    return cards


def _histogram(counts: list[int]) -> Histogram:
    used = [i for i, count in enumerate(counts) if count]
    first, last = used[0], used[-1]
    return Histogram(
        low=_FIRST_BIN * BIN_RATIO**first, ratio=BIN_RATIO, counts=tuple(counts[first : last + 1])
    )


Effects = tuple[tuple[TokenEffect, ...], tuple[TokenEffect, ...]]


@torch.no_grad()
def token_effects(
    model: HookedModel, sae: SAE, features: Tensor, how_many: int, as_text: TokenTexts
) -> list[Effects]:
    """The tokens each feature's decoder row promotes and suppresses, read off the unembedding.

    The row goes through the final norm's own weights and the unembedding, less what a zero vector
    gives: the direct effect on logits of a residual stream that is this direction alone. Layers in
    between are left out, so the reading is apt for late layers and a hint for early ones.

    Args:
        model: The model.
        sae: The dictionary.
        features: `[n]` which features; memory holds `n` rows of logits.
        how_many: Tokens of each sign.
        as_text: Decodes the model's tokens.

    Returns:
        Promoted and suppressed tokens per feature; empty where the site does not write to the
        residual stream (its width differs from the model's).
    """
    if sae.d_in != model.d_model:
        return []
    norm, unembed = model.arch.final_norm, model.arch.lm_head
    rows = sae.W_dec[features.to(sae.W_dec.device)].to(model.device, model.dtype)
    nothing = unembed(norm(rows.new_zeros(1, model.d_model)))
    logits = (unembed(norm(rows)) - nothing).float()
    up, down = logits.topk(how_many, dim=-1), logits.topk(how_many, dim=-1, largest=False)
    return [
        (
            _effects(as_text, up.indices[i].tolist(), up.values[i].tolist()),
            _effects(as_text, down.indices[i].tolist(), down.values[i].tolist()),
        )
        for i in range(rows.shape[0])
    ]


def _effects(
    as_text: TokenTexts, tokens: list[int], logits: list[float]
) -> tuple[TokenEffect, ...]:
    texts = as_text(tokens)
    return tuple(
        TokenEffect(token=text, logit=round(logit, 3))
        for text, logit in zip(texts, logits, strict=True)
    )


class TokenTexts:
    """Each token by itself as text, special tokens included; every token is decoded once."""

    def __init__(self, model: HookedModel) -> None:
        self._tokenizer = model.tokenizer
        self._known: dict[int, str] = {}

    def __call__(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token."""
        for token in tokens:
            if token not in self._known:
                self._known[token] = self._tokenizer.decode([token])
        return [self._known[token] for token in tokens]
