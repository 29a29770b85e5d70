"""Models that tests share: tiny random ones of every promised architecture, and the real one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from interpretops.artifacts import ArtifactStore
from interpretops.models import SMOLLM2, HookedModel
from interpretops.testing import ARCHITECTURES, DEVICE, byte_tokenizer, tiny_hf

__all__ = ["ARCHITECTURES", "DEVICE", "byte_tokenizer", "tiny_hf"]

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make_tiny() -> Callable[..., HookedModel]:
    """Build a tiny hooked model: `make_tiny("gpt2", seed=1, n_layer=2)`."""

    def make(architecture: str = "llama", seed: int = 0, **overrides: Any) -> HookedModel:
        return HookedModel.from_hf(
            tiny_hf(architecture, seed, **overrides), byte_tokenizer(), name=f"tiny-{architecture}"
        )

    return make


@pytest.fixture
def tiny(make_tiny: Callable[..., HookedModel]) -> HookedModel:
    """A tiny LLaMA with grouped-query attention, tied embeddings and a chat template."""
    return make_tiny("llama")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """An empty artifact store."""
    return ArtifactStore(tmp_path / "store")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> HookedModel:
    """The real model, loaded once per run; its converted weights are kept between runs."""
    cache = os.environ.get("INTERPRETOPS_TEST_CACHE") or tmp_path_factory.mktemp("cache")
    return HookedModel(SMOLLM2, dtype="float32", device=DEVICE, cache_dir=cache)
