"""Drafts go to the object store and come back whole on a machine that never saw them."""

from uuid import uuid4

import pytest
from interpretops_platform.objects.blobs import StoreUnavailableError
from interpretops_platform.objects.file import FileBlobs
from interpretops_platform.objects.store import ObjectStore
from interpretops_service.engine.checkpoints import Checkpoints


@pytest.fixture
def objects(tmp_path):
    return ObjectStore(FileBlobs(tmp_path / "objects"), uuid4(), cache=tmp_path / "cache")


@pytest.fixture
def make(objects, tmp_path):
    announced = []

    def on(machine, every_seconds=0.0):
        folder = tmp_path / machine
        folder.mkdir(exist_ok=True)
        made = Checkpoints(
            folder, objects=objects, announce=announced.append, every_seconds=every_seconds
        )
        return made, folder

    on.announced = announced
    return on


def write(folder, **files):
    for name, text in files.items():
        path = folder / "tr-1" / name.replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def kept(tmp_path):
    return sum(path.is_file() for path in (tmp_path / "objects").rglob("*"))


def test_another_machine_goes_on(make):
    one, drafts = make("one")
    write(drafts, __checkpoint="step 1", shard="done")
    one.save()
    write(drafts, __checkpoint="step 2")
    one.save()
    two, elsewhere = make("two")
    assert two.restore(make.announced[-1])
    assert contents(elsewhere) == {"tr-1/.checkpoint": "step 2", "tr-1/shard": "done"}


def test_locks_and_half_written_files_stay_behind(make):
    one, drafts = make("one")
    write(drafts, __index__partial="half", shard="done")
    (drafts / "tr-1.lock").touch()
    one.save()
    two, elsewhere = make("two")
    assert two.restore(make.announced[-1])
    assert contents(elsewhere) == {"tr-1/shard": "done"}


def test_nothing_new_is_not_saved(make):
    one, drafts = make("one")
    one.save()
    assert make.announced == []
    write(drafts, shard="done")
    one.save()
    one.save()
    assert len(make.announced) == 1


def test_a_restored_draft_is_not_sent_again(make):
    one, drafts = make("one")
    write(drafts, shard="done")
    one.save()
    two, _ = make("two")
    two.restore(make.announced[-1])
    two.save()
    assert len(make.announced) == 1


def test_working_state_that_was_superseded_is_deleted(make, tmp_path):
    one, drafts = make("one")
    for step in range(5):
        write(drafts, __checkpoint=f"step {step}", shard="done")
        one.save()
    assert kept(tmp_path) == 3  # the shard, the last checkpoint, the last list


def test_what_may_be_part_of_an_artifact_is_never_deleted(make, objects):
    one, drafts = make("one")
    write(drafts, directions="first")
    first = objects.put(b"first")  # of an artifact that holds the same file
    one.save()
    write(drafts, directions="second, longer")
    one.save()
    assert objects.get(first) == b"first"


def test_saving_waits_for_its_time(make):
    one, drafts = make("one", every_seconds=3600)
    write(drafts, shard="done")
    one.save_if_due()
    assert make.announced == []


def test_a_store_that_is_away_does_not_stop_the_work(make, objects, monkeypatch):
    one, drafts = make("one")
    write(drafts, shard="done")

    def away(*_, **__):
        raise StoreUnavailableError("it is away")

    with monkeypatch.context() as broken:
        broken.setattr(type(objects), "put", away)
        one.save_if_due()
    assert make.announced == []
    one.save()
    assert len(make.announced) == 1


def test_a_checkpoint_that_is_gone_or_not_ours_begins_anew(make, objects, tmp_path):
    one, drafts = make("one")
    write(drafts, __checkpoint="step 1")
    one.save()
    address = make.announced[-1]
    two, elsewhere = make("two")
    for bad in ("", "memory://1", address.replace("size=", "size=1"), address.split("#")[0]):
        assert not two.restore(bad)
    for path in (tmp_path / "objects").rglob("*"):
        if path.is_file() and path.read_bytes() == b"step 1":
            path.unlink()
    assert not two.restore(address)
    assert contents(elsewhere) == {}
