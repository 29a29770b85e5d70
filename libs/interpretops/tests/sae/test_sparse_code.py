"""The sparse arithmetic equals the dense arithmetic it replaces, gradients included."""

from __future__ import annotations

import pytest
import torch
from interpretops.sae.module import StepInput
from interpretops.sae.sparse_code import Pattern, SparseCode, decode_sparse, top_k
from interpretops.sae.spec import TrainingRule
from interpretops.sae.trainer import new_sae
from torch.nn import functional


@pytest.mark.parametrize(("width", "k"), [(64, 3), (512, 8), (513, 8), (40, 40)])
def test_top_k_finds_the_same_entries_as_a_full_sort(width, k):
    values = torch.randn(20, width, generator=torch.Generator().manual_seed(width))
    best, indices = top_k(values, k)
    expected = values.topk(k, dim=-1)
    assert torch.equal(best.sort(-1, descending=True).values, expected.values)
    assert torch.equal(values.gather(1, indices), best)
    assert torch.equal(indices.sort().values, expected.indices.sort().values)


def test_a_code_survives_the_way_to_sparse_and_back():
    dense = torch.randn(7, 12).relu()
    dense[3] = 0  # a token with no active feature at all
    code = SparseCode.from_dense(dense)
    assert torch.equal(code.dense(), dense)
    assert torch.equal(code.fired, (dense > 0).any(0))
    assert float(code.l0) == pytest.approx(float((dense > 0).sum() / 7))


def test_decoding_and_its_gradients_equal_the_dense_product():
    torch.manual_seed(0)
    dense = (torch.randn(9, 20) - 1).relu().double()
    dense[4] = 0
    rows = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
    code = SparseCode.from_dense(dense)
    values = code.values.clone().requires_grad_()
    upstream = torch.randn(9, 5, dtype=torch.float64)
    (decode_sparse(values, rows, code.pattern) * upstream).sum().backward()

    dense_values = dense.clone().requires_grad_()
    dense_rows = rows.detach().clone().requires_grad_()
    ((dense_values @ dense_rows) * upstream).sum().backward()
    at = (code.pattern.tokens, code.pattern.features)
    torch.testing.assert_close(values.grad, dense_values.grad[at])
    torch.testing.assert_close(rows.grad, dense_rows.grad)


def test_tokens_without_entries_are_counted_right():
    pattern = Pattern.from_rows(torch.tensor([1, 1, 4]), torch.tensor([0, 2, 1]), 6, 3)
    assert pattern.offsets.tolist() == [0, 0, 2, 2, 2, 3]
    assert pattern.tokens.tolist() == [1, 1, 4]


def _dense_topk_loss(params, x, rule, dead, *, batch_wide):
    """The published objective written out densely, for autograd to differentiate."""
    enc, b_enc, dec, b_dec = params
    norms = dec.norm(dim=1) if rule.decoder_norm == "rescale" else torch.ones(dec.shape[0])
    pre = ((x - b_dec) @ enc.t() + b_enc) * norms
    if batch_wide:
        cut = pre.flatten().topk(rule.k * x.shape[0]).values[-1]
    else:
        cut = pre.topk(rule.k, dim=-1).values[:, -1:]
    code = pre.relu() * (pre >= cut)
    unit = dec / norms.unsqueeze(1)
    residual = x - (code @ unit + b_dec)
    loss = residual.square().sum(-1).mean()
    if dead.numel():
        aux_k = x.shape[1] // 2
        dead_pre = pre[:, dead]
        if dead.numel() > aux_k:
            kept = dead_pre >= dead_pre.topk(aux_k, dim=-1).values[:, -1:]
            dead_pre = dead_pre * kept
        missed = dead_pre @ unit[dead] - residual.detach()
        scale = rule.aux_coefficient * min(dead.numel() / aux_k, 1)
        loss = loss + scale * missed.square().sum(-1).mean()
    return loss


@pytest.mark.parametrize("kind", ["topk", "batch_topk"])
@pytest.mark.parametrize("norm", ["unit", "rescale"])
@pytest.mark.parametrize("n_dead", [0, 3, 20])
def test_the_training_step_has_the_gradient_of_the_dense_objective(kind, norm, n_dead):
    torch.manual_seed(1)
    rule = TrainingRule(kind=kind, k=4, decoder_norm=norm, aux_coefficient=0.5)
    sae = new_sae(rule, 10, 64)
    with torch.no_grad():
        sae.b_enc.normal_(std=0.1)
        sae.b_dec.normal_(std=0.1)
        if norm == "rescale":
            sae.W_dec *= torch.rand(64, 1) + 0.5
    x = torch.randn(30, 10)
    dead = torch.randperm(64)[:n_dead]
    out = sae.objective(x, StepInput(rule, dead, 1.0))
    out.total.backward()

    params = [sae.W_enc.t(), sae.b_enc, sae.W_dec, sae.b_dec]
    copies = [p.detach().clone().requires_grad_() for p in params]
    loss = _dense_topk_loss(copies, x, rule, dead, batch_wide=kind == "batch_topk")
    loss.backward()
    torch.testing.assert_close(out.total, loss)
    grads = [sae.W_enc.grad.t(), sae.b_enc.grad, sae.W_dec.grad, sae.b_dec.grad]
    for grad, copy in zip(grads, copies, strict=True):
        torch.testing.assert_close(grad, copy.grad, rtol=1e-4, atol=1e-5)


def test_the_jumprelu_step_has_the_straight_through_gradient_of_the_paper():
    torch.manual_seed(2)
    rule = TrainingRule(kind="jumprelu", k=4, bandwidth=0.5)
    sae = new_sae(rule, 10, 64)
    with torch.no_grad():
        sae.threshold.uniform_(0.5, 1.5)
        sae.b_enc.normal_(std=0.1)
    x = torch.randn(200, 10)
    none_dead = torch.empty(0, dtype=torch.int64)
    sae.objective(x, StepInput(rule, none_dead, 0.7)).total.backward()

    # arXiv:2407.14435, equations 11 and 12, on the dense pre-activations
    with torch.no_grad():
        pre = functional.linear(x - sae.b_dec, sae.W_enc.t(), sae.b_enc)
        active = (pre > sae.threshold).float()
        residual = x - ((pre * active) @ sae.W_dec + sae.b_dec)
        grad_code = (-2 * residual / 200) @ sae.W_dec.t()
        window = ((pre - sae.threshold).abs() < 0.25).float() / rule.bandwidth
        l0 = active.sum() / 200
        grad_l0 = 0.7 * 2 * rule.k * 2 * (l0 / rule.k - 1) / rule.k / 200
        expected = (-sae.threshold * window * grad_code - grad_l0 * window).sum(0)
        grad_enc = ((grad_code * active).t() @ (x - sae.b_dec)).t()
    torch.testing.assert_close(sae.threshold.grad, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae.W_enc.grad, grad_enc, rtol=1e-4, atol=1e-5)


def test_the_gated_step_has_the_gradient_of_the_papers_three_terms():
    torch.manual_seed(3)
    rule = TrainingRule(kind="gated", k=4)
    sae = new_sae(rule, 10, 64)
    with torch.no_grad():
        sae.b_gate.uniform_(-1, 0)
        sae.b_mag.normal_(std=0.1)
        sae.r_mag.normal_(std=0.1)
    x = torch.randn(50, 10)
    names = ["W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec"]
    copies = {n: getattr(sae, n).detach().clone().requires_grad_() for n in names}
    none_dead = torch.empty(0, dtype=torch.int64)
    out = sae.objective(x, StepInput(rule, none_dead, 0.7))
    out.total.backward()

    projected = (x - copies["b_dec"]) @ copies["W_enc"]
    gate = (projected + copies["b_gate"]).relu()
    magnitude = (projected * copies["r_mag"].exp() + copies["b_mag"]).relu()
    x_hat = (magnitude * (gate > 0)) @ copies["W_dec"] + copies["b_dec"]
    via_gate = gate @ copies["W_dec"].detach() + copies["b_dec"].detach()
    loss = (
        (x - x_hat).square().sum(-1).mean()
        + (x - via_gate).square().sum(-1).mean()
        + 0.7 * gate.sum(-1).mean()
    )
    loss.backward()
    torch.testing.assert_close(out.total, loss)
    for name in names:
        torch.testing.assert_close(
            getattr(sae, name).grad, copies[name].grad, rtol=1e-4, atol=1e-5, msg=name
        )
