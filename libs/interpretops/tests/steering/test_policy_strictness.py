"""Values that look right and are not: numbers in quotes, YAML's `yes`, vectors without direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from interpretops.errors import InterpretOpsError
from interpretops.policy import load_policy
from interpretops.steering import SteeringSession
from safetensors.torch import save_file

if TYPE_CHECKING:
    from interpretops.models import HookedModel

HEAD = "meta: {id: p, target_class: jailbreak}\n"
SCALE = "interventions: [{type: head_scale, selector: {layer: 1, heads: [0]}, scale: %s}]\n"
GATE = "interventions: [{type: lora_gate, selector: {block: attn}, alpha: %s}]\n"
BUDGET = "constraints: {max_benign_loss_pct: '5'}\n"

REFUSED: dict[str, tuple[str, str]] = {
    "number in quotes": (HEAD + SCALE % "'0.35'", r"2:7\d .*scale.*a valid number, not '0.35'"),
    "yes for a number": (HEAD + GATE % "yes", "alpha.*a valid number, not True"),
    "budget in quotes": (HEAD + SCALE % "1" + BUDGET, "3:15 .*a valid number, not '5'"),
    "control character": (HEAD + "a:\n  id: \x00\n", r"policy.yaml:3:7 .*#x0000 is not allowed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_looks_right_is_refused(name: str, tmp_path: Path) -> None:
    text, says = REFUSED[name]
    path = tmp_path / "policy.yaml"
    path.write_bytes(text.encode())
    with pytest.raises(InterpretOpsError, match=says) as caught:
        load_policy(path)
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(HEAD + SCALE % "2")
    assert load_policy(tmp_path).interventions[0].scale == 2.0  # type: ignore[union-attr]


def test_a_direction_of_zeros_cannot_be_removed(tiny: HookedModel, tmp_path: Path) -> None:
    save_file({"zero": torch.zeros(tiny.d_model)}, tmp_path / "v.safetensors")
    (tmp_path / "policy.yaml").write_text(
        HEAD + "interventions: [{type: direction_ablate, selector: {layer: 1}, "
        'vector: "v.safetensors#zero"}]\n'
    )
    with pytest.raises(InterpretOpsError, match="no direction to remove"):
        SteeringSession(tiny, load_policy(tmp_path))


def test_features_of_another_dictionary_are_refused(tiny: HookedModel, tmp_path: Path) -> None:
    class Other:
        id = "sae_other"

    (tmp_path / "policy.yaml").write_text(
        HEAD.replace("id: p", "dictionary: sae_mine, id: p") + SCALE % "1"
    )
    with pytest.raises(InterpretOpsError, match="fitted with the dictionary sae_mine"):
        SteeringSession(tiny, load_policy(tmp_path), dictionary=Other())  # type: ignore[arg-type]


def test_the_example_policy_of_the_repository_is_valid() -> None:
    policy = load_policy(Path(__file__).parents[4] / "policies" / "jailbreak.yaml")
    assert policy.meta.id == "jailbreak-v1"
    assert [i.type for i in policy.interventions] == ["feature_scale", "feature_clamp", "lora_gate"]
