"""Evaluation measures what it says, on models and dictionaries whose answers are known."""

from __future__ import annotations

import pytest
import torch
from interp_engine import Address
from interpretops.models import Batch, site
from interpretops.sae import TokenStream, TrainingRule, calibrate_thresholds, evaluation, new_sae
from interpretops.sae.calibration import single_reading_agreement
from interpretops.sae.evaluation import evaluate_dictionary
from torch.nn import functional

from ..conftest import DEVICE

SITE = Address("resid_post", 1)


def _stream(n=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(6, 20, (n,), generator=g).tolist()
    rows = [torch.randint(4, 260, (length,), generator=g).tolist() for length in lengths]
    return TokenStream.of(rows, source="random")


def _perfect(d):
    """A dictionary that reconstructs exactly: every axis in both directions, threshold zero."""
    sae = new_sae(TrainingRule(kind="jumprelu", k=4), d, 2 * d, address=SITE)
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([torch.eye(d), -torch.eye(d)]))
        sae.W_enc.copy_(sae.W_dec.t())
    return sae


def _empty(d, bias):
    """A dictionary in which nothing is ever active: it reconstructs its bias."""
    sae = _perfect(d)
    with torch.no_grad():
        sae.threshold.fill_(1e9)
        sae.b_dec.copy_(bias)
    return sae


def _activations(model, stream):
    rows = []
    for i in range(len(stream)):
        batch = Batch.from_ids([stream.row(i)], pad_id=0, device=DEVICE)
        rows.append(model.capture(batch, [SITE])[SITE][0, 1:])
    return torch.cat(rows)


def test_a_perfect_dictionary_recovers_everything(tiny):
    stream = _stream()
    found = evaluate_dictionary(tiny, {SITE: _perfect(32)}, stream, forward_tokens=64)[SITE]
    assert found.recovered_vs_zero.value == pytest.approx(1, abs=1e-4)
    assert found.recovered_vs_zero.low == pytest.approx(1, abs=1e-3)
    assert found.ce_spliced == pytest.approx(found.ce_model, abs=1e-4)
    assert found.fvu == pytest.approx(0, abs=1e-5)
    assert found.l0 == pytest.approx(32, abs=0.5)
    assert found.n_tokens == sum(len(stream.row(i)) - 1 for i in range(len(stream)))
    assert found.recovered_vs_zero.n == len(stream)


def test_an_empty_dictionary_is_zero_or_mean_ablation(tiny):
    stream = _stream()
    mean = _activations(tiny, stream).mean(0)
    zeros = evaluate_dictionary(tiny, {SITE: _empty(32, torch.zeros(32))}, stream)[SITE]
    assert zeros.recovered_vs_zero.value == pytest.approx(0, abs=1e-4)
    assert zeros.silent_share == 1
    assert zeros.l0 == 0
    means = evaluate_dictionary(tiny, {SITE: _empty(32, mean)}, stream)[SITE]
    assert means.ce_spliced == pytest.approx(means.ce_mean, abs=1e-4)
    assert means.recovered_vs_mean.value == pytest.approx(0, abs=1e-3)
    assert means.fvu == pytest.approx(1, abs=1e-3)


def test_cross_entropy_is_that_of_the_model(tiny):
    stream = _stream()
    total, count = 0.0, 0
    for i in range(len(stream)):
        row = stream.row(i)
        logits = tiny.logits(Batch.from_ids([row], pad_id=0, device=DEVICE))[0]
        following = torch.tensor(row[1:], device=DEVICE)
        losses = functional.cross_entropy(logits[:-1], following, reduction="none")
        total += float(losses[1:].sum())  # the first position is left alone, so not counted
        count += len(row) - 2
    found = evaluate_dictionary(tiny, {SITE: _perfect(32)}, stream, forward_tokens=50)[SITE]
    assert found.ce_model == pytest.approx(total / count, rel=1e-4)


def test_the_first_position_is_left_as_it_is(tiny):
    """A dictionary that ruins everything ruins nothing where only first positions exist to ruin."""
    stream = TokenStream.of([[5, 9, 30]] * 4, source="same")
    sae = _empty(32, torch.full((32,), 50.0))
    seen = []
    with tiny.hooks() as hooks:
        hooks.read(Address("resid_pre", 2), lambda value: seen.append(value.clone()))
        evaluate_dictionary(tiny, {SITE: sae}, stream)
    clean, spliced = seen[0], seen[1]
    assert torch.equal(clean[:, 0], spliced[:, 0])
    torch.testing.assert_close(spliced[:, 1:], torch.full_like(spliced[:, 1:], 50.0))


def test_what_sequences_share_is_run_once_and_no_figure_tells(tiny, monkeypatch):
    turn = list(range(40, 60))
    stream = TokenStream.of([[*turn, *row] for row in map(_stream().row, range(12))], source="chat")
    sae = _empty(32, torch.linspace(-1, 1, 32))

    def figures(max_tokens):
        found = evaluate_dictionary(tiny, {SITE: sae}, stream, max_tokens=max_tokens)[SITE]
        losses = (found.ce_model, found.ce_spliced, found.ce_zero, found.ce_mean)
        share = found.recovered_vs_mean
        return (found.n_tokens, found.fvu, *losses, share.value, share.low, share.high)

    within_a_turn = 5 + sum(len(stream.row(i)) for i in range(3))
    limits = (1000, within_a_turn, 10)
    shared = [figures(limit) for limit in limits]
    monkeypatch.setattr(evaluation, "shared_beginning", lambda *_: [])
    for found, limit in zip(shared, limits, strict=True):
        assert found == pytest.approx(figures(limit), rel=1e-4)


@pytest.mark.parametrize("where", ["resid_post.1", "mlp_out.1", "attn_out.2", "mlp_out.0"])
@pytest.mark.parametrize("turn", [[], list(range(40, 60))])
def test_layers_before_a_dictionary_are_run_once_and_no_figure_tells(
    make_tiny, monkeypatch, where, turn
):
    model, address = make_tiny("gemma2"), site(where)
    stream = TokenStream.of([[*turn, *row] for row in map(_stream().row, range(12))], source="chat")
    sae = _empty(model.d_model, torch.linspace(-1, 1, model.d_model))
    runs = []

    def figures():
        with model.hooks() as hooks:
            hooks.read("mlp_out.0", lambda _: runs.append(1))
            found = evaluate_dictionary(model, {address: sae}, stream)[address].model_dump()
        return [found[key] for key in ("ce_model", "ce_spliced", "ce_zero", "ce_mean", "fvu")]

    found = figures()
    spared = len(runs)
    monkeypatch.setattr(evaluation, "_last_before", lambda _: -1)
    assert found == pytest.approx(figures(), rel=1e-4)
    assert (spared < len(runs) - spared) == (where != "mlp_out.0")


def test_the_token_limit_is_kept(tiny):
    found = evaluate_dictionary(tiny, {SITE: _perfect(32)}, _stream(40), max_tokens=60)[SITE]
    assert 40 <= found.n_tokens <= 62


def test_calibration_makes_each_topk_feature_active_as_often_alone_as_in_competition():
    torch.manual_seed(0)
    sae = new_sae(TrainingRule(kind="topk", k=5), 16, 600)
    x = torch.randn(3000, 16) @ torch.diag(torch.linspace(0.2, 2, 16))
    ids = torch.arange(600)
    before = single_reading_agreement(sae, x)
    calibrate_thresholds(sae, x)
    together = (sae.encode(x) > 0).sum(0)
    alone = (sae.encode_features(x, ids) > 0).sum(0)
    assert int((together - alone).abs().max()) <= 1
    assert single_reading_agreement(sae, x) > before + 0.3
    fresh = torch.randn(3000, 16) @ torch.diag(torch.linspace(0.2, 2, 16))
    assert single_reading_agreement(sae, fresh) > before + 0.2
