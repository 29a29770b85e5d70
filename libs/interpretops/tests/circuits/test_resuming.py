"""A search that is stopped goes on where it was, and ends as if it had not been."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from interpretops.artifacts import ArtifactStore
from interpretops.circuits import SearchSpec, search
from interpretops.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from interpretops.circuits import Circuit, ContrastTask
    from interpretops.models import HookedModel
    from interpretops.sae import Dictionary

SPEC = SearchSpec(
    ig_steps=3, pairs=8, held_out=3, resamples=2, measured_features=3, batch_size=3, threshold=0.02
)
STAGES = ["attributing", "pruning", "testing minimality", "measuring each unit"]


class _Stopping:
    """Stops, by whatever `stop` does, at the second step of a stage."""

    def __init__(self, stage: str, stop: Callable[[], None]) -> None:
        self.stage, self.stop = stage, stop

    def update(self, stage: str, done: int, total: int, **figures: float) -> None:
        if (stage, done) == (self.stage, 2):
            self.stop()


def _cancel() -> None:
    raise Cancelled("stopped")


class _Forwards:
    """Counts the forwards of a model."""

    def __init__(self, model: HookedModel) -> None:
        self.count = 0
        model.hf.register_forward_pre_hook(self._counted)

    def _counted(self, *_: object) -> None:
        self.count += 1

    def of(self, work: Callable[[], Circuit]) -> tuple[Circuit, int]:
        """What work returns, and how many forwards it took."""
        before = self.count
        return work(), self.count - before


@pytest.mark.parametrize("stage", STAGES)
def test_a_stopped_search_repeats_nothing_and_ends_with_the_same_bytes(
    tiny: HookedModel,
    letters: Callable[..., ContrastTask],
    dictionary_of: Callable[..., Dictionary],
    store: ArtifactStore,
    tmp_path: Path,
    stage: str,
) -> None:
    dictionary = dictionary_of(tiny)
    task, forwards = letters(14), _Forwards(tiny)
    whole, all_of_it = forwards.of(
        lambda: search(tiny, task, SPEC, dictionary=dictionary, store=store)
    )
    other = ArtifactStore(tmp_path / "stopped")
    other.import_folder(store.export(dictionary.id, tmp_path / "dictionary"))
    before = forwards.count
    with pytest.raises(Cancelled):
        search(
            tiny, task, SPEC, dictionary=dictionary, store=other, monitor=_Stopping(stage, _cancel)
        )
    done = forwards.count - before
    resumed, left = forwards.of(
        lambda: search(tiny, task, SPEC, dictionary=dictionary, store=other)
    )
    assert resumed.manifest.sha256 == whole.manifest.sha256
    # Both runs must record the prompts and twins, in batches of three: three of pairs to search on,
    # one held out.
    recording = 2 * (3 + 1)
    shared_beginnings = 3 + 1
    assert done > recording + shared_beginnings
    assert done + left == all_of_it + recording + shared_beginnings
    assert not [file.path for file in resumed.manifest.files if "/" in file.path]


def test_an_acdc_search_resumes_too(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore, tmp_path: Path
) -> None:
    spec, task = SPEC.model_copy(update={"method": "acdc"}), letters(14)
    whole = search(tiny, task, spec, store=ArtifactStore(tmp_path / "whole"))
    with pytest.raises(Cancelled):
        search(
            tiny,
            task,
            spec,
            store=store,
            monitor=_Stopping("ablating from output to input", _cancel),
        )
    assert search(tiny, task, spec, store=store).manifest.sha256 == whole.manifest.sha256


def test_what_a_killed_search_leaves_on_disk_is_enough_to_resume(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore, tmp_path: Path
) -> None:
    """The store is copied in the middle of the work: no more is there after `kill -9`."""
    task, forwards, left = letters(14), _Forwards(tiny), tmp_path / "left"

    def copy() -> None:
        shutil.copytree(store.root, left)

    whole, all_of_it = forwards.of(
        lambda: search(
            tiny, task, SPEC, store=store, monitor=_Stopping("measuring each unit", copy)
        )
    )
    after = ArtifactStore(left)
    assert not after.ids()
    resumed, rest = forwards.of(lambda: search(tiny, task, SPEC, store=after))
    assert resumed.manifest.sha256 == whole.manifest.sha256
    assert rest < all_of_it


def test_what_was_kept_is_not_trusted_when_damaged(
    tiny: HookedModel, letters: Callable[..., ContrastTask], store: ArtifactStore, tmp_path: Path
) -> None:
    task = letters(14)
    whole = search(tiny, task, SPEC, store=ArtifactStore(tmp_path / "whole"))
    with pytest.raises(Cancelled):
        search(tiny, task, SPEC, store=store, monitor=_Stopping("measuring each unit", _cancel))
    kept = list(store.root.rglob(".*/**/*.safetensors"))
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:-3])
    assert search(tiny, task, SPEC, store=store).manifest.sha256 == whole.manifest.sha256
