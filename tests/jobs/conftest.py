"""A real installation, with models that its workers may load."""

import os
from pathlib import Path

import pytest
from interpretops.testing import save_tiny
from interpretops_platform.security.uris import UriSettings
from interpretops_platform.settings import SecuritySettings
from interpretops_platform.testing import (  # noqa: F401 - fixtures
    broker_settings,
    postgres_server,
    redis_url,
    settings,
)
from interpretops_service.testing import installation  # noqa: F401


@pytest.fixture
def tiny_model(installation):
    """The name of a tiny model that callers may name."""
    folder = save_tiny(installation.folder / "models" / "tiny")
    uris = UriSettings(folders=(folder.parent,))
    installation.change(security=SecuritySettings(uris=uris))
    return folder.as_uri()


@pytest.fixture
def with_real_model(installation):
    """The converted weights of the real model are on the first machine already, where they are kept."""
    kept = os.environ.get("INTERPRETOPS_TEST_CACHE")
    cache = installation.folder / "one" / "cache"
    cache.mkdir(parents=True)
    if kept:
        models = Path(kept).resolve() / "models"
        models.mkdir(parents=True, exist_ok=True)
        (cache / "models").symlink_to(models)
    installation.change(model={"device": "cpu", "dtype": "float32"})
