"""Cards show where features really are active and which tokens they really push."""

from __future__ import annotations

import pytest
import torch
from interp_engine import Address
from interpretops.models import Batch
from interpretops.sae import TokenStream, TrainingRule, describe_features, new_sae
from interpretops.sae.cards import BIN_RATIO, TokenTexts, token_effects
from interpretops.sae.dictionary import pack_cards, unpack_cards

from ..conftest import DEVICE

SITE = Address("resid_post", 1)


def _sae(seed=0, k=4, d_sae=96):
    generator = torch.Generator().manual_seed(seed)
    return new_sae(TrainingRule(kind="topk", k=k), 32, d_sae, address=SITE, generator=generator)


def _stream(n=14, seed=0):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 18, (n,), generator=g).tolist()
    rows = [torch.randint(33, 126, (length,), generator=g).tolist() for length in lengths]
    return TokenStream.of(rows, source="random")


@torch.no_grad()
def _brute_force(model, sae, stream):
    """Every activation of every feature: `[sequence][position, feature]`."""
    codes = []
    for i in range(len(stream)):
        batch = Batch.from_ids([stream.row(i)], pad_id=0, device=DEVICE)
        code = sae.encode(model.capture(batch, [SITE])[SITE][0])
        code[0] = 0  # skipped
        codes.append(code)
    return codes


@pytest.mark.parametrize("forward_tokens", [20, 4096])
def test_contexts_are_the_strongest_ones_of_the_text(tiny, forward_tokens):
    sae, stream = _sae(), _stream()
    found = describe_features(
        tiny, {SITE: sae}, stream, contexts=3, reach=2, forward_tokens=forward_tokens
    )[SITE]
    codes = _brute_force(tiny, sae, stream)
    n_tokens = sum(len(code) - 1 for code in codes)
    active = {f for f in range(sae.d_sae) if any(bool((c[:, f] > 0).any()) for c in codes)}
    assert {card.index for card in found} == active
    for card in found:
        peaks = sorted((float(c[:, card.index].max()) for c in codes), reverse=True)
        expected = [p for p in peaks if p > 0][:3]
        assert [c.activations[c.peak] for c in card.contexts] == pytest.approx(expected, abs=1e-3)
        assert card.max_activation == pytest.approx(expected[0], abs=1e-3)
        count = sum(int((c[:, card.index] > 0).sum()) for c in codes)
        assert card.density == pytest.approx(count / n_tokens)
        values = torch.cat([c[:, card.index] for c in codes])
        _require_counts(card.histogram, values[values > 0].tolist())


def _require_counts(histogram, values):
    """Every value lies in the bin that counts it, up to rounding at a bin's edges."""
    assert sum(histogram.counts) == len(values)
    assert histogram.counts[0] > 0
    assert histogram.counts[-1] > 0
    for i in range(1, len(histogram.counts)):
        edge = histogram.low * BIN_RATIO**i
        below = sum(histogram.counts[:i])
        assert sum(v < edge * (1 - 1e-5) for v in values) <= below
        assert below <= sum(v < edge * (1 + 1e-5) for v in values)


def test_a_context_shows_the_tokens_and_activations_around_its_peak(tiny):
    sae, stream = _sae(), _stream()
    found = describe_features(tiny, {SITE: sae}, stream, contexts=2, reach=3)[SITE]
    codes = _brute_force(tiny, sae, stream)
    for card in found:
        for shown in card.contexts:
            matches = []
            for i, code in enumerate(codes):
                column = code[:, card.index]
                position = int(column.argmax())
                first, last = max(0, position - 3), position + 4
                tokens = tuple(tiny.tokenizer.decode([t]) for t in stream.row(i)[first:last])
                values = pytest.approx(column[first:last].tolist(), abs=1e-3)
                matches.append(
                    shown.tokens == tokens
                    and list(shown.activations) == values
                    and shown.peak == position - first
                )
            assert any(matches)


def test_promoted_tokens_are_those_whose_logits_the_direction_raises(make_tiny):
    """Pushing a large multiple of the decoder row into the final residual ranks tokens the same."""
    for architecture in ("llama", "gpt2", "gemma2"):
        model, sae = make_tiny(architecture), _sae()
        ((promoted, suppressed),) = token_effects(
            model, sae, torch.tensor([7]), 5, TokenTexts(model)
        )
        with torch.no_grad():
            logits = model.unembed(1e4 * sae.W_dec[7].to(DEVICE)) - model.unembed(
                torch.zeros(32, device=DEVICE)
            )
        best = [model.tokenizer.decode([t]) for t in logits.topk(5).indices.tolist()]
        worst = [model.tokenizer.decode([t]) for t in (-logits).topk(5).indices.tolist()]
        assert [effect.token for effect in promoted] == best
        assert [effect.token for effect in suppressed] == worst
        assert promoted[0].logit > 0 > suppressed[0].logit


def test_cards_survive_packing(tiny):
    cards = describe_features(tiny, {SITE: _sae()}, _stream(), contexts=2, reach=2)[SITE]
    assert cards
    assert unpack_cards(pack_cards(cards)) == cards
    older = [card.model_copy(update={"histogram": None}) for card in cards]
    assert unpack_cards(pack_cards(cards).replace(b'"histogram"', b'"other"')) == older


def test_features_that_never_fire_have_no_card(tiny):
    sae = _sae()
    with torch.no_grad():
        sae.b_enc[:50] = -1e6
    cards = describe_features(tiny, {SITE: sae}, _stream())[SITE]
    assert cards
    assert min(card.index for card in cards) >= 50
