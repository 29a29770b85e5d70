"""`mechctl drift` over a tiny model: a policy against its reference, another policy, another model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from interpretops.cli.app import app
from interpretops.models import HookedModel
from interpretops.steering import measure_reference
from interpretops.steering.policy import Policy
from interpretops.steering.reference import REFERENCE
from interpretops.testing import save_tiny
from safetensors.torch import save_file
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

USUAL = [f"Tell me about the number {i}, please." for i in range(120)]
OTHER = [f"{'#' * (i % 9)} {i * 7919} {'=' * (i % 5)}" for i in range(120)]


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy with what it saw of ordinary prompts, its model, and settings that name it."""
    monkeypatch.chdir(tmp_path)
    model = HookedModel(str(save_tiny(tmp_path / "tiny")), dtype="float32", device="cpu")
    folder = tmp_path / "policy"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    save_file({"v": torch.randn(model.d_model, generator=generator)}, folder / "v.safetensors")
    steer = {
        "type": "direction_add",
        "selector": {"layer": 1},
        "vector": "v.safetensors#v",
        "coefficient": 1.0,
    }
    data = {
        "meta": {"id": "p", "target_class": "jailbreak", "model": model.ref.fingerprint},
        "condition": {"probe": [{"layer": 0, "vector": "v.safetensors#v"}], "threshold": 0.0},
        "interventions": [steer],
    }
    made = Policy.model_validate(data).within(folder)
    (folder / "policy.yaml").write_text(made.to_yaml())
    reference = measure_reference(model, made, USUAL, USUAL[:1], dictionary=None)
    (folder / REFERENCE).write_text(reference.model_dump_json())
    settings = {"model": {"name": str(tmp_path / "tiny"), "dtype": "float32", "device": "cpu"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    for name, texts in (("usual", USUAL), ("other", OTHER)):
        lines = [json.dumps({"text": text}) for text in texts]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def run(*arguments: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["drift", *arguments, "--config", "config.yaml"])
    return ran.exit_code, ran.output + str(ran.exception or "")


def test_the_same_prompts_are_stable_and_others_are_not(policy: Path) -> None:
    code, told = run("policy", "--prompts", "usual.jsonl")
    assert code == 0, told
    assert "stable" in told
    code, told = run("policy", "--prompts", "other.jsonl")
    assert code == 1, told
    assert "drifted" in told
    assert "mechctl policy propose" in told
    code, told = run("policy", "--prompts", "other.jsonl", "--json")
    assert json.loads(told[told.index("{") : told.rindex("}") + 1])["score"]["psi"] > 0.25


def test_another_model_and_another_policy(policy: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny", seed=1)
    code, told = run("policy", "--prompts", "usual.jsonl")
    assert "was fitted to another model" in told
    assert code in (0, 1)
    code, told = run("policy", "policy", "--prompts", "usual.jsonl")
    assert (code, "stable" in told) == (0, True), told


def test_what_cannot_be_compared_says_what_to_do(policy: Path) -> None:
    (policy / REFERENCE).unlink()
    code, told = run("policy", "--prompts", "usual.jsonl")
    assert code != 0
    assert "kept nothing" in told
    code, told = run("policy", "--hours", "3")
    assert code != 0
    assert "--api" in told
