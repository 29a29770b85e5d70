"""Going on from a shared beginning gives what running the whole prompts gives."""

from __future__ import annotations

import pytest
import torch
from interpretops.models import Address, Batch, HookedModel, Prefix, common_prefix

from ..conftest import ARCHITECTURES, DEVICE, byte_tokenizer, tiny_hf

PROMPTS = ["same start: a", "same start: something longer", "same start: of it"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_activations_after_a_prefix_are_those_of_whole_prompts(architecture: str) -> None:
    model = HookedModel.from_hf(tiny_hf(architecture), byte_tokenizer())
    site = Address("resid_post", model.n_layers - 1)
    rows = [model.token_ids(prompt) for prompt in PROMPTS]
    shared = common_prefix(rows)
    assert len(shared) >= len("same start: ")
    prefix = Prefix.run(model, shared)
    rest = Batch.from_ids(
        [row[len(shared) :] for row in rows],
        pad_id=model.pad_id,
        padding_side="right",
        device=DEVICE,
    )
    with torch.no_grad():
        found = model.capture(rest, [site], after=prefix)[site]
        for row, ids in enumerate(rows):
            alone = Batch.from_ids([ids], pad_id=model.pad_id, device=DEVICE)
            whole = model.capture(alone, [site])[site][0]
            own = int(rest.lengths[row])
            torch.testing.assert_close(found[row, :own], whole[-own:], rtol=1e-4, atol=1e-5)


def test_every_prompt_keeps_a_token_of_its_own() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 3]]) == [1, 2]
    assert common_prefix([[1, 2], [1, 2, 3]]) == [1]
    assert common_prefix([[4], [4, 5]]) == []
    assert common_prefix([]) == []


def test_nothing_shared_is_no_prefix() -> None:
    model = HookedModel.from_hf(tiny_hf("llama"), byte_tokenizer())
    site = Address("resid_post", 0)
    prefix = Prefix.run(model, [])
    batch = model.encode(["anything"])
    with torch.no_grad():
        after = model.capture(batch, [site], after=prefix)[site]
        torch.testing.assert_close(after, model.capture(batch, [site])[site])
    assert prefix.length == 0
