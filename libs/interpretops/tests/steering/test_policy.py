"""Policies are read strictly: every mistake is one line with its place and its fix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
from interpretops.artifacts import ArtifactStore
from interpretops.errors import InterpretOpsError
from interpretops.policy import load_policy
from interpretops.steering import Policy, SteeringSession, store_policy
from interpretops.steering.explain import explain
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops.models import HookedModel

HEAD = "meta: {id: p, target_class: jailbreak}\n"
ADD = 'interventions: [{type: direction_add, selector: {layer: 1}, vector: "v.safetensors#a"}]\n'

FULL = """\
meta:
  id: "jailbreak-v1"
  description: "Every kind of intervention"
  target_class: "jailbreak"
constraints:
  max_latency_overhead_pct: 20
  max_benign_loss_pct: 5
interventions:
  - type: "feature_scale"
    selector:
      layer: 12
      sae_feature_ids: [47, 231, 502]
    scale: 0.35
  - type: "feature_clamp"
    selector:
      layer: 8
      sae_feature_ids: [19, 64]
    clamp_range: [-0.5, 0.5]
  - type: "lora_gate"
    selector:
      block: "attn"
      heads: [5, 9]
    alpha: 0.2
evaluation:
  suites:
    - name: "jailbreak_redteam_v1"
    - name: "benign_regression_v1"
  success_criteria:
    defense_efficacy_min: 0.5
    collateral_damage_max: 0.05
"""


def test_the_form_that_is_documented_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "jailbreak.yaml"
    path.write_text(FULL)
    policy = load_policy(path)
    assert [i.type for i in policy.interventions] == ["feature_scale", "feature_clamp", "lora_gate"]
    (tmp_path / "again.yaml").write_text(policy.to_yaml())
    assert load_policy(tmp_path / "again.yaml") == policy


def clamp(**changes: str) -> str:
    keys = {
        "type": "feature_clamp",
        "selector": "{layer: 1, sae_feature_ids: [3]}",
        "clamp_range": "[0, 1]",
        **changes,
    }
    body = ", ".join(f"{key}: {value}" for key, value in keys.items() if value)
    return f"{HEAD}interventions: [{{{body}}}]\n"


MALFORMED: dict[str, tuple[str | bytes, str]] = {
    "empty file": ("", "is empty"),
    "not a mapping": ("- a\n- b\n", "not a mapping"),
    "syntax": ("meta: {id: p\n", "this is not YAML"),
    "tab": ("meta:\n\tid: p\n", "not YAML"),
    "not UTF-8": (b"meta: \xff\xfe", "not UTF-8"),
    "too large": (b"#" + b"x" * 1_000_001, "at most 1,000,000"),
    "alias": ("a: &x [1]\nb: *x\n", "alias"),
    "duplicate key": (HEAD + "meta: {id: q, target_class: t}\n" + ADD, "stands twice"),
    "key that is not text": ("1: 2\n", "is not text"),
    "not a number": (clamp(clamp_range="[.nan, 1]"), "not a finite number"),
    "infinite": (clamp(clamp_range="[0, .inf]"), "not a finite number"),
    "unknown top-level key": (HEAD + "interventoins: []\n" + ADD, "did you mean 'interventions'"),
    "unknown key in an intervention": (clamp(clamp_rnge="[0, 1]"), "did you mean 'clamp_range'"),
    "unknown key far from any": (clamp(zzzz="1"), "remove 'zzzz'"),
    "missing meta": (ADD, "add `meta:`"),
    "missing interventions": (HEAD, "add `interventions:`"),
    "no interventions": (HEAD + "interventions: []\n", "at least one item"),
    "missing id": ("meta: {target_class: t}\n" + ADD, "add `id:`"),
    "bad id": ("meta: {id: 'Not An Id', target_class: t}\n" + ADD, "meta.id"),
    "missing type": (clamp(type=""), "add `type:`"),
    "unknown type": (clamp(type="feature_clmp"), "did you mean 'feature_clamp'"),
    "missing selector": (clamp(selector=""), "add `selector:`"),
    "negative layer": (
        clamp(selector="{layer: -1, sae_feature_ids: [3]}"),
        "greater than or equal to 0",
    ),
    "layer as text": (clamp(selector="{layer: one, sae_feature_ids: [3]}"), "valid integer"),
    "layer as fraction": (clamp(selector="{layer: 1.5, sae_feature_ids: [3]}"), "valid integer"),
    "no features": (clamp(selector="{layer: 1, sae_feature_ids: []}"), "at least one item"),
    "feature twice": (clamp(selector="{layer: 1, sae_feature_ids: [3, 3]}"), "lists 3 twice"),
    "reversed range": (clamp(clamp_range="[1, 0]"), r"write \[0, 1\]"),
    "range of one": (clamp(clamp_range="[1]"), "clamp_range"),
    "absurd number": (clamp(clamp_range="[0, 1.0e+9]"), "less than or equal to"),
    "bad span": (clamp(span="{prompt_tail: -1}"), "prompt_tail"),
    "bad vector": (HEAD + ADD.replace("v.safetensors#a", "v.bin"), "vector"),
    "heads of an MLP": (
        HEAD + "interventions: [{type: lora_gate, selector: {block: mlp, heads: [1]}, alpha: 1}]\n",
        "only attention has heads",
    ),
    "unknown block": (
        HEAD + "interventions: [{type: lora_gate, selector: {block: atn}, alpha: 1}]\n",
        "did you mean 'attn'",
    ),
    "alpha out of range": (
        HEAD + "interventions: [{type: lora_gate, selector: {block: attn}, alpha: 99}]\n",
        "less than or equal to 10",
    ),
    "criterion out of range": (
        HEAD + ADD + "evaluation: {success_criteria: {defense_efficacy_min: 50}}\n",
        "less than or equal to 1",
    ),
    "condition without readings": (
        HEAD + ADD + "condition: {probe: [], threshold: 0}\n",
        "at least one item",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_policy_is_explained_in_one_line(name: str, tmp_path: Path) -> None:
    text, says = MALFORMED[name]
    path = tmp_path / "policy.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InterpretOpsError, match=says) as caught:
        load_policy(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "Fix: " in message
    assert "policy.yaml" in message


def test_a_mistake_is_placed_at_its_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(FULL.replace("clamp_range: [-0.5, 0.5]", "clamp_range: [0.5, -0.5]"))
    with pytest.raises(
        InterpretOpsError, match=r"policy\.yaml:\d+:\d+ interventions\[1\]"
    ) as caught:
        load_policy(path)
    line = int(re.search(r"yaml:(\d+):", str(caught.value))[1])  # type: ignore[index]
    assert (
        FULL.splitlines()[line - 1].strip().startswith(('- type: "feature_clamp"', "clamp_range"))
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InterpretOpsError, match="does not exist"):
        load_policy(tmp_path / "nothing.yaml")


def test_a_policy_that_does_not_fit_the_model_is_refused(tiny: HookedModel, tmp_path: Path) -> None:
    width = tiny.d_model
    save_file(
        {
            "a": torch.ones(width),
            "narrow": torch.ones(width - 1),
            "matrix": torch.ones(2, width),
            "broken": torch.full((width,), torch.nan),
        },
        tmp_path / "v.safetensors",
    )
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")

    def add(vector: str = "v.safetensors#a", layer: int = 1) -> str:
        return (
            f"interventions: [{{type: direction_add, selector: {{layer: {layer}}}, "
            f'vector: "{vector}"}}]\n'
        )

    condition = 'condition: {{threshold: 0, probe: [{{layer: {}, vector: "v.safetensors#a"}}]}}\n'
    heads = "interventions: [{type: head_scale, selector: {layer: 0, heads: [99]}, scale: 0}]\n"
    lora = "interventions: [{type: lora_gate, selector: {block: attn}, alpha: 1}]\n"
    for body, says in (
        (add(layer=99), "layer 99 is out of range"),
        (add("v.safetensors#missing"), "holds no vector 'missing'"),
        (add("other.safetensors#a"), "which is not in"),
        (add("../v.safetensors#a"), "outside its folder"),
        (add("torn.safetensors#a"), "not a whole safetensors file"),
        (add("v.safetensors#narrow"), "wide but the residual stream is"),
        (add("v.safetensors#matrix"), "not one vector of finite numbers"),
        (add("v.safetensors#broken"), "not one vector of finite numbers"),
        (heads, "head 99 is out of range"),
        (lora, "without an adapter"),
        (clamp().removeprefix(HEAD), "no dictionary is given"),
        (add(layer=0) + condition.format(1), "after its intervention"),
        (add() + condition.format(99), "layer 99 is out of range"),
    ):
        (tmp_path / "policy.yaml").write_text(HEAD + body)
        with pytest.raises(InterpretOpsError, match=says) as caught:
            SteeringSession(tiny, load_policy(tmp_path / "policy.yaml"))
        assert "\n" not in str(caught.value)
    (tmp_path / "policy.yaml").write_text(HEAD.replace("id: p", "model: abc, id: p") + add())
    with pytest.raises(InterpretOpsError, match="fitted to another model"):
        SteeringSession(tiny, load_policy(tmp_path / "policy.yaml"))


def test_a_policy_is_explained_in_words(tmp_path: Path) -> None:
    path = tmp_path / "jailbreak.yaml"
    path.write_text(FULL)
    sentences = explain(load_policy(path))
    assert sentences[0] == "It acts on every request."
    assert "damps f47, f231, f502 to 0.35 times" in sentences[1]
    assert "keeps f19, f64 between -0.5 and 0.5" in sentences[2]
    assert "heads 5, 9" in sentences[3]
    assert "0.2 times" in sentences[3]


def test_a_written_policy_is_stored_once_with_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    save_file({"a": torch.ones(4)}, folder / "v.safetensors")
    (folder / "unrelated.txt").write_text("not named")
    data = {
        "meta": {"id": "p", "target_class": "t"},
        "interventions": [
            {
                "type": "direction_add",
                "selector": {"layer": 1},
                "vector": "v.safetensors#a",
            }
        ],
    }
    policy = Policy.model_validate(data).within(folder)
    store = ArtifactStore(tmp_path / "store")
    made = store_policy(policy, store=store)
    assert store_policy(policy, store=store).id == made.id
    assert {path.name for path in made.folder.iterdir()} >= {"policy.yaml", "v.safetensors"}
    assert not (made.folder / "unrelated.txt").exists()
    assert made.evidence is None
    assert torch.equal(made.policy.vector("v.safetensors#a"), torch.ones(4))
    save_file({"a": torch.zeros(4)}, folder / "v.safetensors")
    assert store_policy(policy, store=store).id != made.id
    (folder / "v.safetensors").unlink()
    with pytest.raises(InterpretOpsError, match=r"v\.safetensors"):
        store_policy(policy, store=store)
