"""The stream of activations is the model's, and any range of it can be made again."""

from __future__ import annotations

import itertools

import pytest
import torch
from interp_engine import Address
from interpretops.errors import InterpretOpsError
from interpretops.models import Batch
from interpretops.sae.activations import ModelActivations, TensorActivations
from interpretops.sae.token_stream import TokenStream

from ..conftest import DEVICE

SITES = [Address("resid_post", 0), Address("mlp_out", 1)]


def _stream(n=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    rows = [
        torch.randint(4, 260, (int(length),), generator=g).tolist()
        for length in torch.randint(2, 15, (n,), generator=g)
    ]
    return TokenStream.of(rows, source="random")


def _expected(tiny, stream):
    """Every row the stream should hold, from unpadded single-sequence forwards."""
    found = {address: [] for address in SITES}
    for i in range(len(stream)):
        batch = Batch.from_ids([stream.row(i)], pad_id=0, device=DEVICE)
        for address, values in tiny.capture(batch, SITES).items():
            found[address].append(values[0, 1:])
    return {address: torch.cat(values) for address, values in found.items()}


def _as_multiset(rows):
    return rows[rows[:, 0].argsort()]


def test_an_epoch_holds_every_position_once(tiny):
    stream = _stream()
    source = ModelActivations(tiny, stream, SITES, forward_tokens=32)
    expected = _expected(tiny, stream)
    assert source.n_rows == sum(len(stream.row(i)) - 1 for i in range(len(stream)))
    rows = source.rows(0, source.n_rows)
    for address in SITES:
        torch.testing.assert_close(
            _as_multiset(rows[address]), _as_multiset(expected[address]), rtol=1e-4, atol=1e-5
        )


def test_sites_stay_in_step(tiny):
    """Row i of one site is the same token as row i of the other."""
    stream = _stream()
    source = ModelActivations(tiny, stream, SITES, forward_tokens=32)
    expected = _expected(tiny, stream)
    rows = source.rows(3, 40)
    distances = torch.cdist(rows[SITES[0]], expected[SITES[0]]).argmin(1)
    torch.testing.assert_close(rows[SITES[1]], expected[SITES[1]][distances], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["model", "tensor"])
def test_a_range_is_the_same_however_it_is_reached(tiny, kind):
    if kind == "model":
        source = ModelActivations(tiny, _stream(), SITES, forward_tokens=32)
    else:
        source = TensorActivations({SITES[0]: torch.randn(50, 4)})
    n = source.n_rows
    whole = source.rows(0, 2 * n + 10)[SITES[0]]
    cuts = [0, 7, n - 3, n + 5, 2 * n + 10]
    if kind == "model":  # consecutive within a range
        pieces = torch.cat([source.rows(a, b)[SITES[0]] for a, b in itertools.pairwise(cuts)])
        torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(whole[:n], whole[n : 2 * n])  # each epoch has its own order
    else:
        again = source.rows(cuts[1], cuts[2])[SITES[0]]
        assert torch.equal(again, source.rows(cuts[1], cuts[2])[SITES[0]])
        epoch = source.rows(0, n)[SITES[0]]
        assert torch.equal(_as_multiset(epoch), _as_multiset(source.rows(n, 2 * n)[SITES[0]]))


def test_memory_running_out_halves_the_batch(tiny, monkeypatch):
    stream = _stream()
    source = ModelActivations(tiny, stream, SITES, forward_tokens=10_000)
    expected = source.rows(0, source.n_rows)
    real = tiny.capture
    refused = []

    def small_only(batch, sites, after):
        if len(batch) > 2:
            refused.append(len(batch))
            raise torch.OutOfMemoryError("out of memory")
        return real(batch, sites, after=after)

    monkeypatch.setattr(tiny, "capture", small_only)
    rows = source.rows(0, source.n_rows)
    assert refused
    torch.testing.assert_close(rows[SITES[0]], expected[SITES[0]], rtol=1e-4, atol=1e-5)


def test_sequences_too_short_to_use_are_refused(tiny):
    stream = TokenStream.of([[5], [6]], source="two tokens")
    with pytest.raises(InterpretOpsError, match=r"longer than 1 tokens.*Fix: give longer texts"):
        ModelActivations(tiny, stream, SITES)


def test_an_empty_source_is_refused():
    with pytest.raises(InterpretOpsError, match="holds no text"):
        TokenStream.of([[], []], source="nothing")


def test_packed_documents_lose_no_token(tiny):
    texts = ["first document", "second one", "third"]
    stream = TokenStream.from_texts(tiny, texts, context_length=8, source="texts")
    flat = [token for i in range(len(stream)) for token in stream.row(i)]
    end = tiny.tokenizer.eos_token_id
    assert tiny.tokenizer.decode([t for t in flat if t != end]) == "".join(texts)
    assert flat.count(end) == 3
    assert {len(stream.row(i)) for i in range(len(stream) - 1)} == {8}


def test_text_is_scrubbed_before_it_is_tokenised(tiny):
    stream = TokenStream.from_texts(
        tiny,
        ["call 0412 345 678", "nothing"],
        context_length=64,
        source="texts",
        scrub=lambda t: (t.replace("0412 345 678", "[PHONE]"), {"phone": t.count("0412")}),
    )
    assert "0412" not in tiny.tokenizer.decode(stream.tokens.tolist())
    assert stream.redactions["phone"] == 1


def test_held_out_sequences_are_not_trained_on():
    stream = _stream(40)
    train, heldout = stream.split(0.25, seed=3)
    assert len(train) == 30
    assert len(heldout) == 10
    assert sorted([*train.tolist(), *heldout.tolist()]) == list(range(40))
    assert stream.select(train).row(4) == stream.row(int(train[4]))
    assert torch.equal(stream.split(0.25, seed=3)[0], train)
    assert not torch.equal(stream.split(0.25, seed=4)[0], train)
