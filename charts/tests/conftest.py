"""The chart, rendered as Helm renders it, over a matrix of values."""

from __future__ import annotations

import functools
from pathlib import Path

import helm_python as helm
import pytest
import yaml

from .rendered import Release

CHART = Path(__file__).parents[1] / "interpretops"
MINE = Path(__file__).parent / "values"
DIGEST = "sha256:" + "0f" * 32

MATRIX = {
    "dev": ["values-dev.yaml"],
    "eks": ["values-eks.yaml", MINE / "eks.yaml"],
    "airgapped": ["values-airgapped.yaml", MINE / "airgapped.yaml"],
    "eks-irsa": ["values-eks.yaml", MINE / "eks.yaml", MINE / "irsa.yaml"],
    "eks-adapter": ["values-eks.yaml", MINE / "eks.yaml", MINE / "adapter.yaml"],
    "minio": ["values-airgapped.yaml", MINE / "airgapped.yaml", MINE / "minio.yaml"],
    "dev-secured": ["values-dev.yaml", MINE / "secured.yaml"],
}


@functools.cache
def chart() -> helm.Chart:
    """The chart, loaded once."""
    return helm.Chart.load(str(CHART))


def merged(*layers: dict) -> dict:
    """Values as Helm merges them: maps by key, anything else as a whole."""
    result: dict = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


def values_of(name: str) -> dict:
    """The values of one entry of the matrix."""
    return merged(*(yaml.safe_load((CHART / file).read_text()) for file in MATRIX[name]))


def render(values: dict, *, name: str = "interpretops") -> Release:
    """What Helm makes of the chart with these values."""
    made = chart().render(values, name=name, namespace="ops")
    return Release(
        {path: text for path, text in made.items() if path.endswith(".yaml")}, values, name
    )


@functools.cache
def _release(name: str) -> Release:
    return render(values_of(name))


@pytest.fixture(params=MATRIX)
def release(request) -> Release:
    """Each entry of the matrix."""
    return _release(request.param)


@pytest.fixture(scope="session")
def rendered():
    """An entry of the matrix by its name."""
    return _release
