"""Artifacts are whole or absent, found again by the work that made them, and know their parents."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import torch
from interpretops.artifacts import ArtifactKind, ArtifactStore, Handle, Manifest, ModelRef
from interpretops.errors import InterpretOpsError
from pydantic import BaseModel

if TYPE_CHECKING:
    from pathlib import Path

MODEL = ModelRef(name="m", architecture="A", dtype="float32", fingerprint="0" * 64)


class Spec(BaseModel):
    value: int = 1


def make(store: ArtifactStore, kind: ArtifactKind, value: int = 1, *parents: str) -> Manifest:
    with store.draft(kind, Spec(value=value), model=MODEL, parents=parents) as draft:
        draft.write_json("data.json", {"value": value})
        draft.write_tensors("weights.safetensors", {"w": torch.arange(4.0) * value})
        return draft.commit({"value": value})


def test_the_same_work_is_found_and_other_work_is_not(store: ArtifactStore) -> None:
    made = make(store, ArtifactKind.TRACE)
    assert made.id.startswith("tr_")
    assert store.find(ArtifactKind.TRACE, Spec(), model=MODEL) == made
    assert store.find(ArtifactKind.TRACE, Spec(value=2), model=MODEL) is None
    assert store.find(ArtifactKind.CIRCUIT, Spec(), model=MODEL) is None
    other = MODEL.model_copy(update={"fingerprint": "1" * 64})
    assert store.find(ArtifactKind.TRACE, Spec(), model=other) is None


def test_the_payload_hash_depends_on_the_payload_alone(store: ArtifactStore) -> None:
    first, second = make(store, ArtifactKind.TRACE), make(store, ArtifactKind.TRACE)
    assert first.id < second.id
    assert first.sha256 == second.sha256
    assert make(store, ArtifactKind.TRACE, 3).sha256 != first.sha256


def test_a_handle_opens_its_own_kind_by_id_or_folder(store: ArtifactStore, tmp_path: Path) -> None:
    class RiskCard(Handle):
        kind = ArtifactKind.RISK_CARD

    card, trace = make(store, ArtifactKind.RISK_CARD), make(store, ArtifactKind.TRACE)
    exported = store.export(card.id, tmp_path / "card")
    for ref in (card.id, exported):
        opened = RiskCard.open(store, ref)
        assert opened.id == card.id
        assert (opened.folder / "data.json").is_file()
    with pytest.raises(InterpretOpsError, match=r"is a trace, not a risk card.*begins with rc_"):
        RiskCard.open(store, trace.id)
    (opened.folder / "data.json").write_text("{}")
    with pytest.raises(InterpretOpsError, match="damaged"):
        RiskCard.open(ArtifactStore(store.root), card.id)


def test_an_interrupted_draft_keeps_its_files_and_makes_no_artifact(store: ArtifactStore) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        store.draft(ArtifactKind.TRACE, Spec(), model=MODEL) as draft,
    ):
        draft.write_bytes(".checkpoint", b"half")
        draft.write_bytes("part", b"1")
        raise KeyboardInterrupt
    assert store.ls() == []
    with store.draft(ArtifactKind.TRACE, Spec(), model=MODEL) as draft:
        assert (draft.path / ".checkpoint").read_bytes() == b"half"
        manifest = draft.commit()
    assert [file.path for file in manifest.files] == ["part"], "working state is not payload"
    assert not draft.path.exists()


def test_a_kill_during_commit_leaves_a_resumable_draft_and_no_artifact(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from pydantic import BaseModel
        from interpretops.artifacts import ArtifactKind, ArtifactStore
        class Spec(BaseModel):
            value: int = 1
        store = ArtifactStore(Path({str(tmp_path)!r}))
        put = store.objects.put_file
        def put_one_then_die(key, source):
            put(key, source)
            os.kill(os.getpid(), signal.SIGKILL)
        store.objects.put_file = put_one_then_die
        with store.draft(ArtifactKind.TRACE, Spec()) as draft:
            draft.write_bytes("a", b"1")
            draft.write_bytes("b", b"2")
            draft.commit()
        """
    )
    died = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert died.returncode == -signal.SIGKILL
    store = ArtifactStore(tmp_path)
    assert store.ls() == []
    with store.draft(ArtifactKind.TRACE, Spec()) as draft:
        assert sorted(p.name for p in draft.path.iterdir()) == ["a", "b"]
        assert store.verify(draft.commit().id).whole


def test_two_processes_do_not_make_the_same_thing_at_once(store: ArtifactStore) -> None:
    with (
        store.draft(ArtifactKind.TRACE, Spec()),
        pytest.raises(InterpretOpsError, match="another process"),
        store.draft(ArtifactKind.TRACE, Spec()),
    ):
        pass


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_damage_is_noticed(store: ArtifactStore, damage: str) -> None:
    made = make(store, ArtifactKind.DICTIONARY)
    path = store.payload(made.id) / "weights.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[:-1])
    elif damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    fresh = ArtifactStore(store.root)
    assert not fresh.verify(made.id).whole
    assert fresh.find(ArtifactKind.DICTIONARY, Spec(), model=MODEL) is None, (
        "a cache must not use it"
    )
    with pytest.raises(InterpretOpsError, match=r"damaged: weights\.safetensors"):
        fresh.payload(made.id)


def test_an_altered_manifest_is_noticed(store: ArtifactStore) -> None:
    made = make(store, ArtifactKind.TRACE)
    path = store.root / "artifacts" / made.id / "manifest.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert not store.verify(made.id).whole
    with pytest.raises(InterpretOpsError, match="manifest"):
        store.get(made.id)


def test_a_full_disk_is_one_clear_line(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with store.draft(ArtifactKind.TRACE, Spec()) as draft:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InterpretOpsError, match=r"disk .* is full"):
            draft.write_bytes("a", b"1")
        monkeypatch.undo()
        assert not (draft.path / "a").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small file system")
def test_a_really_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        store = ArtifactStore(small)
        with store.draft(ArtifactKind.TRACE, Spec()) as draft:
            with pytest.raises(InterpretOpsError, match="is full"):
                draft.write_bytes("big", bytes(200_000))
            assert not (draft.path / "big").exists()
        assert store.ls() == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_lineage_is_the_walk_along_parents(store: ArtifactStore) -> None:
    trace = make(store, ArtifactKind.TRACE)
    sae = make(store, ArtifactKind.DICTIONARY, 1, trace.id)
    circuit = make(store, ArtifactKind.CIRCUIT, 1, sae.id, trace.id)
    assert [m.id for m in store.lineage(circuit.id)] == [trace.id, sae.id, circuit.id]


def test_export_and_import_carry_an_artifact_between_stores(
    store: ArtifactStore, tmp_path: Path
) -> None:
    made = make(store, ArtifactKind.TRACE)
    out = store.export(made.id, tmp_path / "out")
    other = ArtifactStore(tmp_path / "other")
    assert other.get(out) == made
    assert other.verify(made.id).whole
    (out / "data.json").write_text("{}")
    assert store.verify(made.id).whole, "an exported copy is not the artifact"
    with pytest.raises(InterpretOpsError, match="altered after it was exported"):
        ArtifactStore(tmp_path / "third").get(out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InterpretOpsError, match="in the way"):
        store.export(made.id, tmp_path / "mine")


def test_gc_keeps_the_young_and_what_they_were_made_from(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = make(store, ArtifactKind.TRACE)
    orphan = make(store, ArtifactKind.TRACE, 2)
    import interpretops.artifacts.store as module

    later = module.utc_now() + timedelta(days=20)
    monkeypatch.setattr(module, "utc_now", lambda: later)
    sae = make(store, ArtifactKind.DICTIONARY, 1, trace.id)
    assert [m.id for m in store.gc(14, dry_run=True)] == [orphan.id]
    assert orphan.id in store.ids()
    store.gc(14)
    assert set(store.ids()) == {trace.id, sae.id}


def test_an_unknown_reference_says_where_to_look(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(InterpretOpsError, match="mechctl artifacts ls"):
        store.get("tr_nothing")
    with pytest.raises(InterpretOpsError, match=r"holds no manifest\.json"):
        store.get(tmp_path)
    made = make(store, ArtifactKind.TRACE)
    assert store.get(made.id[:-3]) == made, "a unique beginning is enough"
