"""Reading a trace: lazily, in any order, and shuffled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from interpretops.artifacts import ArtifactKind
from interpretops.errors import InterpretOpsError
from interpretops.prompts import PromptSet
from interpretops.tracing import Trace, TraceSpec, trace
from pydantic import BaseModel

SITE = "resid_post.1"


@pytest.fixture
def made(tiny, store) -> Trace:
    texts = [f"{'word ' * (n % 7)}{n}" for n in range(30)]
    spec = TraceSpec(sites=(SITE, "z.0"), batch_size=4, shard_mb=0.05)
    found = trace(tiny, PromptSet.of(texts), spec, store=store)
    assert len(found.index.shards) > 3
    return found


def test_every_way_to_index_gives_the_same_rows(made) -> None:
    rows = made.activations(SITE)
    whole = torch.cat(list(rows.chunks()))
    assert rows.shape == tuple(whole.shape) == (len(made), 32)
    assert torch.equal(rows[:], whole)
    assert torch.equal(rows[5:-3], whole[5:-3])
    assert torch.equal(rows[3:200:7], whole[3:200:7])
    assert torch.equal(rows[10:10], whole[10:10])
    assert torch.equal(rows[-1], whole[-1])
    order = torch.randperm(len(made), generator=torch.Generator().manual_seed(1))
    assert torch.equal(rows[order], whole[order])
    assert torch.equal(rows[[4, 4, 0]], whole[[4, 4, 0]])
    for outside in (len(made), -len(made) - 1, [len(made)], [-1]):
        with pytest.raises(IndexError):
            rows[outside]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_a_slice_is_a_view_of_the_mapped_file(made) -> None:
    rows = made.activations(SITE)
    first, again = rows[0:4], rows[2:4]
    assert again.data_ptr() == first[2].data_ptr()
    address = first.data_ptr()
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = (line.split(maxsplit=5) for line in lines)
    mapped = [s[5] for s in spans if len(s) == 6 and _holds(s[0], address)]
    assert mapped == [str(made.folder / "shard-00000.safetensors")]


def _holds(span: str, address: int) -> bool:
    low, high = (int(end, 16) for end in span.split("-"))
    return low <= address < high


def test_batches_are_a_seeded_permutation_and_go_on_where_they_were(made) -> None:
    whole = made.activations(SITE)[:]
    one = list(made.batches(SITE, 64, seed=3))
    assert torch.equal(torch.cat(one).sort(0).values, whole.sort(0).values)
    assert [len(batch) for batch in one[:-1]] == [64] * (len(one) - 1)
    assert not torch.equal(torch.cat(one), whole)
    assert all(map(torch.equal, one, made.batches(SITE, 64, seed=3)))
    assert all(map(torch.equal, one[2:], made.batches(SITE, 64, seed=3, skip=2)))
    assert not torch.equal(one[0], next(made.batches(SITE, 64, seed=4)))


def test_batches_of_two_sites_with_one_seed_are_of_the_same_rows(made) -> None:
    order = torch.randperm(len(made), generator=torch.Generator().manual_seed(3))[:64]
    for name in (SITE, "z.0"):
        batch = next(made.batches(name, 64, seed=3))
        assert torch.equal(batch, made.activations(name)[order])


def test_it_is_opened_by_id_and_as_an_exported_folder(made, store, tmp_path) -> None:
    out = store.export(made.id, tmp_path / "out")
    for ref in (made.id, out):
        again = Trace.open(store, ref)
        assert torch.equal(again.activations(SITE)[:], made.activations(SITE)[:])
        assert again.prompts == made.prompts


def test_a_bit_flip_is_noticed(made, store) -> None:
    path = made.folder / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    store._checked.clear()  # as in a new process
    with pytest.raises(InterpretOpsError, match="shard-00001"):
        Trace.open(store, made.id)


def test_another_kind_of_artifact_is_refused(store) -> None:
    class Spec(BaseModel):
        pass

    with store.draft(ArtifactKind.CIRCUIT, Spec()) as draft:
        draft.write_json("circuit.json", {})
        manifest = draft.commit()
    with pytest.raises(InterpretOpsError, match="not a trace"):
        Trace.open(store, manifest.id)
