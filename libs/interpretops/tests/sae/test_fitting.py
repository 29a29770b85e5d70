"""Training finds what was planted, resumes exactly, and says what is wrong with bad data."""

from __future__ import annotations

import pytest
import torch
from interp_engine import Address
from interpretops.errors import Cancelled, InterpretOpsError
from interpretops.sae.activations import TensorActivations
from interpretops.sae.fitting import fit
from interpretops.sae.spec import DictionarySpec, Kind

SITE = Address("resid_post", 1)
OTHER = Address("resid_post", 2)


def _planted(n, *, d_in=64, n_features=128, l0=4, seed=97):
    """Sparse positive combinations of known unit directions, an offset and a little noise."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.randn(n_features, d_in, generator=g)
    directions /= directions.norm(dim=1, keepdim=True)
    active = torch.rand(n, n_features, generator=g) < l0 / n_features
    strengths = active * (0.5 + torch.rand(n, n_features, generator=g))
    offset = 0.5 * torch.randn(d_in, generator=g)
    return strengths @ directions + offset + 0.01 * torch.randn(n, d_in, generator=g), directions


def _mean_max_cosine(directions, W_dec):
    rows = W_dec / W_dec.norm(dim=1, keepdim=True)
    return float((directions @ rows.t()).max(1).values.mean())


def _spec(kind="topk", **changes):
    settings = {
        "kind": kind,
        "sites": (str(SITE),),
        "d_sae": 256,
        "k": 4,
        "tokens": 512 * 400,
        "batch": 512,
        "lr": 3e-3,
        "buffer_tokens": 8192,
        "seed": 5,
    }
    return DictionarySpec(**{**settings, **changes})


@pytest.mark.parametrize("kind", list(Kind))
def test_a_planted_dictionary_is_recovered(kind):
    x, directions = _planted(23_000)
    x, fresh = x[:20_000], x[20_000:]
    trained = fit(TensorActivations({SITE: x}), _spec(kind))[SITE]
    start = fit(TensorActivations({SITE: x}), _spec(kind, tokens=512, lr=1e-9))[SITE]
    assert _mean_max_cosine(directions, start.W_dec) < 0.5
    assert _mean_max_cosine(directions, trained.W_dec) > 0.9
    missed = (fresh - trained(fresh)).square().sum() / (fresh - fresh.mean(0)).square().sum()
    assert float(missed) < 0.25
    assert float((trained.encode(fresh) > 0).sum(-1).float().mean()) == pytest.approx(4, rel=0.25)


class _StopAt:
    def __init__(self, step):
        self.step = step

    def update(self, stage, done, total, **figures):
        if done == self.step:
            raise Cancelled(stage)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("stop_at", [7, 16])  # inside a chunk, and at the end of one
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(kind, stop_at):
    x, _ = _planted(3000)
    source = {SITE: x, OTHER: 2 * x + 1}
    spec = _spec(kind, tokens=128 * 40, batch=128, buffer_tokens=1024, checkpoint_steps=5)
    whole = fit(TensorActivations(source), spec)

    saved = []

    def keep(tensors):
        saved.append({name: tensor.clone() for name, tensor in tensors.items()})

    with pytest.raises(Cancelled):
        fit(TensorActivations(source), spec, save_checkpoint=keep, monitor=_StopAt(stop_at))
    assert int(saved[-1][f"{SITE}/step"]) == stop_at
    resumed = fit(TensorActivations(source), spec, resume_from=saved[-1])
    for address in (SITE, OTHER):
        for name, value in whole[address].state_dict().items():
            torch.testing.assert_close(resumed[address].state_dict()[name], value, msg=name)


def test_the_seed_decides_the_result():
    x, _ = _planted(2000)
    spec = _spec(tokens=128 * 10, batch=128)
    first = fit(TensorActivations({SITE: x}), spec)[SITE]
    again = fit(TensorActivations({SITE: x}), spec)[SITE]
    other = fit(TensorActivations({SITE: x}), spec.model_copy(update={"seed": 6}))[SITE]
    assert torch.equal(first.W_dec, again.W_dec)
    assert not torch.allclose(first.W_dec, other.W_dec)


def test_progress_carries_the_figures_users_watch():
    seen = []

    class Watch:
        def update(self, stage, done, total, **figures):
            seen.append((stage, done, total, figures))

    x, _ = _planted(2000)
    fit(TensorActivations({SITE: x}), _spec(tokens=128 * 30, batch=128), monitor=Watch())
    assert [done for _, done, _, _ in seen] == list(range(1, 31))
    assert {"loss", "l0", "fvu", "dead_share", "tokens_per_s"} <= set(seen[0][3])
    assert seen[-1][3]["loss"] < seen[0][3]["loss"]


def test_nan_activations_are_named_with_a_way_out():
    x, _ = _planted(2000)
    x[1234] = float("nan")
    with pytest.raises(InterpretOpsError, match=r"NaN or infinite\. Fix: .*float32") as caught:
        fit(TensorActivations({SITE: x}), _spec(tokens=2000, batch=100))
    assert "resid_post.1" in str(caught.value)


def test_too_little_data_is_named_with_a_way_out():
    x, _ = _planted(100)
    with pytest.raises(InterpretOpsError, match=r"100 activations.*Fix: give more text"):
        fit(TensorActivations({SITE: x}), _spec())


def test_divergence_is_told_apart_from_bad_data():
    x, _ = _planted(2000)
    spec = _spec(tokens=128 * 200, batch=128, lr=1e30, warmup=0, clip_norm=None)
    with pytest.raises(InterpretOpsError, match=r"diverged at step \d+.*Fix: lower lr"):
        fit(TensorActivations({SITE: x}), spec)
