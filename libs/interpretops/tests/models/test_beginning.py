"""What sequences begin with is run once, and no value tells."""

from __future__ import annotations

import pytest
import torch
from interpretops.models import Address, Batch, Beginning, shared_beginning

from ..conftest import DEVICE

SHARED = list(range(40, 60))
SEQUENCES = [[*SHARED, 7], [*SHARED, 9, 8, 7, 6], [*SHARED, 9, 3]]
SITES = [Address("resid_post", 1), Address("z", 2)]


@pytest.mark.parametrize("architecture", ["gpt_neox", "gpt2", "mistral", "gemma3_text"])
@pytest.mark.parametrize("others", [[], [[1, 2, 3]]])
def test_values_are_those_of_whole_sequences(make_tiny, architecture, others) -> None:
    model = make_tiny(architecture)
    batch = Batch.from_ids(SEQUENCES, pad_id=0, padding_side="right", device=DEVICE, pad_to=26)
    expected = model.capture(batch, SITES)
    found = Beginning(model, [*SEQUENCES, *others], SITES).capture(SEQUENCES, width=26)
    real = batch.attention_mask.bool()
    for site in SITES:
        assert found[site].shape == expected[site].shape
        torch.testing.assert_close(found[site][real], expected[site][real], atol=1e-4, rtol=1e-4)


def test_all_that_is_shared_is_found(tiny) -> None:
    assert shared_beginning(tiny, iter(SEQUENCES), SITES) == SHARED
    assert shared_beginning(tiny, [*SEQUENCES, SHARED], SITES) == SHARED[:-1]
    assert shared_beginning(tiny, [*SEQUENCES, [40, 41, 99]], SITES) == []
    assert shared_beginning(tiny, [], SITES) == []


def test_nothing_is_shared_where_a_cache_does_not_hold_all(tiny, monkeypatch) -> None:
    assert shared_beginning(tiny, SEQUENCES, [Address("value", 1)]) == []
    monkeypatch.setattr(type(tiny.arch), "is_linear_attention_layer", lambda _, layer: layer == 1)
    assert shared_beginning(tiny, SEQUENCES, SITES) == []
