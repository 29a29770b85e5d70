"""Reading features alone, and what training and scaling leave behind."""

from __future__ import annotations

import pytest
import torch
from interp_engine import Address
from interpretops.errors import InterpretOpsError
from interpretops.sae.spec import Kind, TrainingRule
from interpretops.sae.trainer import SAETrainer, geometric_median, new_sae


def _random_sae(kind, seed=0, d_in=12, d_sae=64, k=5):
    torch.manual_seed(seed)
    sae = new_sae(TrainingRule(kind=kind, k=k), d_in, d_sae, address=Address("resid_post", 1))
    with torch.no_grad():
        for name, tensor in [*sae.named_parameters(), *sae.named_buffers()]:
            if name.startswith("b_") or name == "r_mag":
                tensor.normal_(std=0.2)
            if name == "threshold":
                tensor.uniform_(0.2, 1.2) if kind != "batch_topk" else tensor.fill_(0.7)
    return sae


@pytest.mark.parametrize("kind", ["batch_topk", "jumprelu", "gated"])
def test_a_feature_read_alone_is_the_same_column_of_the_whole_code(kind):
    sae, x = _random_sae(kind), torch.randn(3, 7, 12)
    code = sae.encode(x)
    assert code.shape == (3, 7, 64)
    assert 0 < float((code > 0).float().mean()) < 0.6
    ids = [5, 63, 0, 17]
    torch.testing.assert_close(sae.encode_features(x, ids), code[..., ids])


def test_reading_a_topk_feature_alone_touches_no_other_column():
    sae, x = _random_sae("topk"), torch.randn(20, 12)
    before = sae.encode_features(x, [3, 9])
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    expected = pre[:, [3, 9]] * (pre[:, [3, 9]] > sae.threshold[[3, 9]])
    torch.testing.assert_close(before, expected)
    with torch.no_grad():
        others = [i for i in range(64) if i not in (3, 9)]
        sae.W_enc[:, others] = float("nan")
    assert torch.equal(sae.encode_features(x, [3, 9]), before)


@pytest.mark.parametrize("kind", list(Kind))
def test_forward_is_decode_of_encode(kind):
    sae, x = _random_sae(kind), torch.randn(4, 6, 12)
    torch.testing.assert_close(sae(x), sae.decode(sae.encode(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", list(Kind))
def test_folding_the_input_scale_gives_the_same_dictionary_on_raw_input(kind):
    sae, x = _random_sae(kind), torch.randn(50, 12)
    code, rebuilt = sae.encode(3.0 * x), sae(3.0 * x)
    sae.fold_input_scale(3.0)
    torch.testing.assert_close(sae.encode(x), code / 3.0, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae(x), rebuilt / 3.0, rtol=1e-4, atol=1e-5)
    assert sae.input_scale == 3.0


@pytest.mark.parametrize("kind", ["topk", "batch_topk"])
def test_finishing_folds_free_decoder_norms_into_the_encoder(kind):
    rule = TrainingRule(kind=kind, k=5, decoder_norm="rescale", lr=0.02)
    sae = new_sae(rule, 12, 64)
    trainer = SAETrainer(sae, rule, total_steps=20, batch=64)
    x = torch.randn(64, 12)
    for _ in range(20):
        trainer.step(x)
    norms = sae.W_dec.detach().norm(dim=1)
    assert float(norms.std()) > 1e-3
    pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc) * norms
    sae.finish(rule)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64))
    torch.testing.assert_close((x - sae.b_dec) @ sae.W_enc + sae.b_enc, pre, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", list(Kind))
def test_unit_rule_keeps_decoder_rows_at_norm_one(kind):
    rule = TrainingRule(kind=kind, k=5, lr=0.02)
    sae = new_sae(rule, 12, 64)
    trainer = SAETrainer(sae, rule, total_steps=10, batch=64)
    trainer.begin(torch.randn(64, 12))
    for _ in range(10):
        trainer.step(torch.randn(64, 12))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64))


def test_batch_topk_learns_the_threshold_that_gives_its_l0():
    rule = TrainingRule(kind="batch_topk", k=5, lr=1e-3, threshold_rate=0.1)
    sae = new_sae(rule, 12, 64)
    trainer = SAETrainer(sae, rule, total_steps=60, batch=512)
    for _ in range(60):
        trainer.step(torch.randn(512, 12))
    l0 = float((sae.encode(torch.randn(4000, 12)) > 0).sum(-1).float().mean())
    assert l0 == pytest.approx(5, rel=0.1)


def test_revival_brings_dead_features_back():
    """Features pointed away from all data never fire unless the auxiliary loss reaches them."""

    def dead_after_training(aux_coefficient):
        torch.manual_seed(0)
        rule = TrainingRule(
            kind="topk", k=4, lr=5e-3, aux_coefficient=aux_coefficient, dead_after_tokens=512
        )
        sae = new_sae(rule, 32, 128)
        with torch.no_grad():
            sae.b_enc[:64] = -20.0
        trainer = SAETrainer(sae, rule, total_steps=400, batch=128)
        directions = torch.randn(100, 32)
        for _ in range(400):
            mask = (torch.rand(128, 100) < 0.05).float()
            figures = trainer.step(mask @ directions)
        return float(figures.dead_share)

    assert dead_after_training(0.0) >= 0.5
    assert dead_after_training(1.0) < 0.25


def test_bfloat16_training_reaches_the_same_loss():
    losses = {}
    for dtype in ("float32", "bfloat16"):
        torch.manual_seed(0)
        rule = TrainingRule(kind="topk", k=8, lr=3e-3, dtype=dtype)
        sae = new_sae(rule, 32, 256, generator=torch.Generator().manual_seed(0))
        trainer = SAETrainer(sae, rule, total_steps=100, batch=256)
        directions = torch.randn(64, 32)
        for _ in range(100):
            mask = (torch.rand(256, 64) < 0.05).float()
            figures = trainer.step(mask @ directions)
        losses[dtype] = float(figures.fvu)
        assert sae.W_dec.dtype == torch.float32
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["float32"] < 0.5


def test_geometric_median_resists_an_outlier_that_moves_the_mean():
    points = torch.randn(200, 4)
    points[0] = 1e4
    assert float(geometric_median(points).norm()) < 0.5
    assert float(points.mean(0).norm()) > 50


@pytest.mark.parametrize(("k", "d_sae"), [(0, 64), (-3, 64), (64, 64), (100, 64)])
def test_an_impossible_k_is_refused_in_one_line(k, d_sae):
    with pytest.raises(InterpretOpsError, match=r"k is .*Fix: set k between") as caught:
        new_sae(TrainingRule(k=k), 12, d_sae)
    assert "\n" not in str(caught.value)


def test_a_decoder_rule_that_does_not_exist_for_the_kind_is_refused():
    with pytest.raises(InterpretOpsError, match=r"set decoder_norm to 'unit'"):
        new_sae(TrainingRule(kind="gated", k=4, decoder_norm="rescale"), 12, 64)


def test_a_feature_that_does_not_exist_is_refused():
    with pytest.raises(InterpretOpsError, match=r"no feature 64.*from 0 to 63"):
        _random_sae("topk").encode_features(torch.randn(2, 12), [64])
