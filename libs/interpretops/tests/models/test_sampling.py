"""How tokens are drawn: by the distribution asked for, and each row by itself."""

from __future__ import annotations

import pytest
import torch
from interpretops.models import Chooser, Sampling, choose

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, float("-inf")])


def shares(sampling: Sampling, draws: int = 20_000) -> torch.Tensor:
    rows = [Chooser(sampling, row) for row in range(draws)]
    tokens = choose(LOGITS.expand(draws, -1), rows)
    return torch.bincount(tokens, minlength=5) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_by_their_probabilities(temperature: float) -> None:
    found = shares(Sampling(temperature=temperature, seed=0))
    expected = (LOGITS / temperature).softmax(-1)
    assert torch.allclose(found, expected, atol=0.015)
    assert found[4] == 0


def test_top_p_keeps_the_likeliest_that_hold_it() -> None:
    probabilities = LOGITS.softmax(-1)
    assert probabilities[0] < 0.7 < probabilities[:2].sum()
    found = shares(Sampling(temperature=1.0, top_p=0.7, seed=0))
    kept = probabilities[:2] / probabilities[:2].sum()
    assert torch.allclose(found[:2], kept, atol=0.015)
    assert found[2:].sum() == 0
    assert shares(Sampling(temperature=1.0, top_p=0.1, seed=0))[0] == 1


def test_top_p_holds_over_more_tokens_than_are_looked_at_first() -> None:
    flat = torch.zeros(1, 4096)
    kinds = [Sampling(temperature=1, top_p=0.99, seed=seed) for seed in range(400)]
    drawn = {int(choose(flat, [Chooser(kind)])) for kind in kinds}
    assert len(drawn) > 350, "a flat distribution needs almost all tokens to hold 0.99"


def test_rows_choose_each_in_its_own_way() -> None:
    kinds = [
        Sampling(),
        Sampling(temperature=1, seed=1),
        Sampling(temperature=1, top_p=0.6, seed=2),
    ]
    logits = torch.randn(3, 300, generator=torch.Generator().manual_seed(0))
    together = choose(logits, [Chooser(kind) for kind in kinds])
    for row, kind in enumerate(kinds):
        assert choose(logits[row : row + 1], [Chooser(kind)]) == together[row]
    assert together[0] == logits[0].argmax()
