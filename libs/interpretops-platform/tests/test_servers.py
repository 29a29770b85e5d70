"""A server that cannot be had skips tests on a laptop and fails them in CI."""

import pytest
from interpretops_platform.errors import SettingsError
from interpretops_platform.testing import _available


def _absent():
    raise SettingsError("there is none", fix="start one")


def test_a_missing_server_fails_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no redis server: there is none"):
        _available("redis", _absent)


def test_a_missing_server_skips_elsewhere(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no redis server"):
        _available("redis", _absent)
