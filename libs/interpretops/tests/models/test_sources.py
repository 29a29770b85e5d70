"""What can be named as a model, and what is said when it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from interpretops.errors import InterpretOpsError
from interpretops.models import SMOLLM2, HookedModel, run_batched

from ..conftest import DEVICE, byte_tokenizer, tiny_hf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def test_a_folder_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    hf = tiny_hf("llama")
    hf.save_pretrained(tmp_path / "m")
    byte_tokenizer().save_pretrained(tmp_path / "m")
    loaded = HookedModel(str(tmp_path / "m"), dtype="float32", device=DEVICE, cache_dir=tmp_path)
    original = HookedModel.from_hf(hf, byte_tokenizer())
    batch = original.encode(["Hello"])
    assert torch.equal(loaded.logits(batch), original.logits(batch))
    assert loaded.ref.fingerprint == original.ref.fingerprint


def test_the_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    a, b = tiny_hf("llama"), tiny_hf("llama")
    tokenizer = byte_tokenizer()
    same = HookedModel.from_hf(a, tokenizer).ref.fingerprint
    assert same == HookedModel.from_hf(b, tokenizer).ref.fingerprint
    with torch.no_grad():
        b.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-6
    assert same != HookedModel.from_hf(b, tokenizer).ref.fingerprint


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_name": "builtin:nothing"}, "built-in model is builtin:smollm2"),
        ({"model_name": "no/such-model-anywhere"}, "could not be loaded"),
        ({"model_name": "missing.gguf"}, "does not exist"),
        ({"model_name": "FOLDER"}, "holds no config.json"),
        ({"model_name": "FOLDER", "dtype": "float7"}, "use auto, float32"),
        ({"model_name": "MODEL", "device": "cuda"}, "set model.device to cpu"),
        ({"model_name": "MODEL", "device": "abacus"}, "use auto, cpu, cuda"),
    ],
)
def test_what_cannot_be_loaded_is_explained_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    says: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if settings.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    name = settings.pop("model_name")
    if name in ("FOLDER", "MODEL"):
        (tmp_path / "m").mkdir()
        if name == "MODEL":
            tiny_hf("llama").save_pretrained(tmp_path / "m")
            byte_tokenizer().save_pretrained(tmp_path / "m")
        name = str(tmp_path / "m")
    with pytest.raises(InterpretOpsError, match=says) as caught:
        HookedModel(name, cache_dir=tmp_path, **{"device": "cpu", **settings})
    assert "\n" not in str(caught.value)


def test_a_broken_gguf_leaves_nothing_half_converted(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(InterpretOpsError, match="converted"):
        HookedModel(str(broken), device="cpu", cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_prompts_that_cannot_be_run_are_refused(tiny: HookedModel) -> None:
    with pytest.raises(InterpretOpsError, match="prompt 2 has"):
        tiny.encode(["fine", "far too long " * 100])
    with pytest.raises(InterpretOpsError, match="no prompts"):
        tiny.encode([])
    with pytest.raises(InterpretOpsError, match="holds no tokens"):
        tiny.encode([""], chat=False)


def test_running_out_of_memory_halves_the_batch_and_goes_on() -> None:
    sizes: list[int] = []

    def run(chunk: Sequence[int]) -> list[int]:
        sizes.append(len(chunk))
        if len(chunk) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [item * 2 for item in chunk]

    assert run_batched(range(7), run, 8) == [0, 2, 4, 6, 8, 10, 12]
    assert max(sizes[2:]) <= 2

    def hopeless(chunk: Sequence[int]) -> list[int]:
        raise MemoryError

    with pytest.raises(InterpretOpsError, match="one prompt alone"):
        run_batched([1, 2], hopeless, 2)
    with pytest.raises(RuntimeError, match="something else"):
        run_batched([1], _fail, 1)


def _fail(chunk: Sequence[int]) -> list[int]:
    raise RuntimeError("something else")


@pytest.mark.real_model
def test_the_built_in_model_answers(smollm2: HookedModel) -> None:
    assert smollm2.name == SMOLLM2
    assert smollm2.config.rope_parameters["rope_theta"] == 100000.0
    assert "Paris" in smollm2.generate("What is the capital of France?", 16)
