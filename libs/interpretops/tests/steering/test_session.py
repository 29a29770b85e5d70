"""What a session does to a model while it lasts, and that nothing of it remains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.errors import InterpretOpsError
from interpretops.models import Address, Sampling
from interpretops.sae import TrainingRule, new_sae
from interpretops.steering import Policy, SteeringSession
from safetensors.torch import save_file

from ..conftest import DEVICE

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops.models import HookedModel
    from interpretops.sae import SAE

PROMPTS = ["Hi", "How are you today?", "Tell me three colours, please."]
LAYER = 1


class Shelf:
    """One autoencoder where a session looks for dictionaries."""

    def __init__(self, sae: SAE) -> None:
        self.saes = {Address("resid_post", LAYER): sae}


@pytest.fixture
def sae(tiny: HookedModel) -> SAE:
    torch.manual_seed(0)
    made = new_sae(TrainingRule(kind="jumprelu", k=4), tiny.d_model, 24)
    return made.requires_grad_(False).to(DEVICE)


@pytest.fixture
def policy_of(tiny: HookedModel, tmp_path: Path) -> Any:
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(tiny.d_model, generator=generator) * 3 for name in ("a", "b", "c")}
    save_file(vectors, tmp_path / "v.safetensors")

    def make(*interventions: dict[str, Any], **more: Any) -> Policy:
        data = {"meta": {"id": "p", "target_class": "t"}, "interventions": interventions, **more}
        return Policy.model_validate(data).within(tmp_path)

    make.vectors = {name: vector.to(DEVICE) for name, vector in vectors.items()}  # type: ignore[attr-defined]
    return make


def add(vector: str = "a", coefficient: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "type": "direction_add",
        "selector": {"layer": LAYER},
        "vector": f"v.safetensors#{vector}",
        "coefficient": coefficient,
        **more,
    }


def resid(model: HookedModel, batch: Any) -> torch.Tensor:
    return model.capture(batch, [Address("resid_post", LAYER)])[Address("resid_post", LAYER)]


def test_nothing_remains_after_a_session(tiny: HookedModel, policy_of: Any) -> None:
    batch = tiny.encode(PROMPTS)
    before, weights = tiny.logits(batch), tiny.ref.fingerprint
    with SteeringSession(tiny, policy_of(add())) as session:
        assert not torch.equal(session.logits(batch), before)
    with pytest.raises(RuntimeError, match="boom"), SteeringSession(tiny, policy_of(add())):
        raise RuntimeError("boom")
    assert torch.equal(tiny.logits(batch), before)
    del tiny.ref
    assert tiny.ref.fingerprint == weights
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny.hf.modules())


def test_sessions_nest(tiny: HookedModel, policy_of: Any) -> None:
    batch = tiny.encode(PROMPTS[:1])
    both = policy_of(add("a"), add("b"))
    with SteeringSession(tiny, policy_of(add("a"))) as outer:
        alone = outer.logits(batch)
        with SteeringSession(tiny, policy_of(add("b"))) as inner:
            nested = inner.logits(batch)
        assert torch.equal(outer.logits(batch), alone)
    with SteeringSession(tiny, both) as session:
        torch.testing.assert_close(session.logits(batch), nested)


def test_each_kind_does_its_arithmetic(tiny: HookedModel, policy_of: Any, sae: SAE) -> None:
    batch = tiny.encode(PROMPTS[1:2])
    x = resid(tiny, batch)
    ids = [2, 5, 7]
    features = sae.encode(x)
    v = policy_of.vectors["a"]

    def with_features(new: torch.Tensor) -> torch.Tensor:
        changed = features.clone()
        changed[..., ids] = new
        return x + (changed - features) @ sae.W_dec

    selector = {"layer": LAYER, "sae_feature_ids": ids}
    expected = {
        "scale": (
            {"type": "feature_scale", "selector": selector, "scale": 0.25},
            with_features(features[..., ids] * 0.25),
        ),
        "clamp": (
            {"type": "feature_clamp", "selector": selector, "clamp_range": [0.5, 2.0]},
            with_features(features[..., ids].clamp(0.5, 2.0)),
        ),
        "add": (add("a", 0.5), x + 0.5 * v),
        "ablate": (
            {
                "type": "direction_ablate",
                "selector": {"layer": LAYER},
                "vector": "v.safetensors#a",
            },
            x - (x @ v)[..., None] * v / v.norm() ** 2,
        ),
    }
    for name, (intervention, wanted) in expected.items():
        seen: list[torch.Tensor] = []
        with (
            SteeringSession(tiny, policy_of(intervention), dictionary=Shelf(sae)) as session,
            tiny.hooks() as hooks,
        ):
            hooks.read(Address("resid_post", LAYER), seen.append)
            session.logits(batch)
        torch.testing.assert_close(seen[0], wanted, msg=lambda m, name=name: f"{name}: {m}")


def test_clamps_of_one_place_act_as_one(tiny: HookedModel, policy_of: Any, sae: SAE) -> None:
    def clamp(*ids: int) -> dict[str, Any]:
        selector = {"layer": LAYER, "sae_feature_ids": list(ids)}
        return {"type": "feature_clamp", "selector": selector, "clamp_range": [4.0, 4.0]}

    batch = tiny.encode(PROMPTS)
    with SteeringSession(tiny, policy_of(clamp(2, 5)), dictionary=Shelf(sae)) as session:
        together = session.logits(batch)
    apart = policy_of(clamp(2), clamp(5))
    with SteeringSession(tiny, apart, dictionary=Shelf(sae)) as session:
        torch.testing.assert_close(session.logits(batch), together)
        assert session.record[0].units == (f"layer{LAYER}.f2", f"layer{LAYER}.f5")


def test_only_the_selected_features_are_computed(
    tiny: HookedModel, policy_of: Any, sae: SAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> torch.Tensor:
        raise AssertionError("the whole dictionary was computed")

    monkeypatch.setattr(type(sae), "encode", refuse)
    monkeypatch.setattr(type(sae), "decode", refuse)
    clamp = {
        "type": "feature_clamp",
        "selector": {"layer": LAYER, "sae_feature_ids": [3]},
        "clamp_range": [9.0, 9.0],
    }
    batch = tiny.encode(PROMPTS)
    before = tiny.logits(batch)
    with SteeringSession(tiny, policy_of(clamp), dictionary=Shelf(sae)) as session:
        assert not torch.allclose(session.logits(batch), before)


def test_scaling_a_head_to_nothing_removes_it(tiny: HookedModel, policy_of: Any) -> None:
    batch = tiny.encode(PROMPTS[1:2])
    head = {"type": "head_scale", "selector": {"layer": 2, "heads": [1]}, "scale": 0.0}
    seen: list[torch.Tensor] = []
    with SteeringSession(tiny, policy_of(head)) as session, tiny.hooks() as hooks:
        hooks.read(Address("z", 2), seen.append)
        session.logits(batch)
    z = seen[0].unflatten(-1, (tiny.n_heads, -1))
    assert z[:, :, 1].abs().max() == 0
    assert z[:, :, 0].abs().max() > 0


def test_a_span_touches_exactly_its_positions(tiny: HookedModel, policy_of: Any) -> None:
    batch = tiny.encode(PROMPTS, continuations=["abcdef"] * 3)
    x = resid(tiny, batch)
    policy = policy_of(add(span={"prompt_tail": 3, "answer_tokens": 2}))
    seen: list[torch.Tensor] = []
    with SteeringSession(tiny, policy) as session, tiny.hooks() as hooks:
        hooks.read(Address("resid_post", LAYER), seen.append)
        session.logits(batch)
    moved = (seen[0] - x).abs().amax(-1) > 1e-6
    index = torch.arange(x.shape[1])
    for row in range(3):
        end = int(batch.last_prompt[row])
        assert moved[row].tolist() == ((index > end - 3) & (index <= end + 2)).tolist()


def test_teacher_forcing_equals_generation(tiny: HookedModel, policy_of: Any) -> None:
    tiny.end_ids = torch.tensor([], dtype=torch.int64, device=DEVICE)
    policy = policy_of(add("a", 2.0, span={"prompt_tail": 4, "answer_tokens": 3}))
    prompt = tiny.encode(PROMPTS[1:2])
    with SteeringSession(tiny, policy) as session:
        steps = [int(step.tokens[0]) for step in session.stream(prompt, 8)]
        ids = prompt.input_ids[0].tolist()
        forced = type(prompt).from_ids(
            [ids + steps], pad_id=0, prompt_lengths=[len(ids)], device=DEVICE
        )
        predicted = session.logits(forced)[0, len(ids) - 1 : -1].argmax(-1).tolist()
    assert predicted == steps


def test_every_row_of_a_batch_equals_its_solo_run(tiny: HookedModel, policy_of: Any) -> None:
    tiny.end_ids = torch.tensor([], dtype=torch.int64, device=DEVICE)
    prompts = [*PROMPTS, "What?"]

    def gated(threshold: float) -> Policy:
        probe = [{"layer": 0, "vector": "v.safetensors#c", "prompt_tail": 4}]
        return policy_of(add("b", 2.0), condition={"probe": probe, "threshold": threshold})

    policies = [policy_of(add("a", 2.0)), None, gated(-1e5), gated(1e5)]
    with SteeringSession(tiny, policies) as session:
        together = tiny.collect(session.stream(tiny.encode(prompts), 10), 4)
        record = session.record
    for row, (prompt, policy) in enumerate(zip(prompts, policies, strict=True)):
        with SteeringSession(tiny, [policy]) as session:
            assert tiny.collect(session.stream(tiny.encode([prompt]), 10), 1)[0] == together[row]
            assert session.record[0].fired == record[row].fired
    assert [r.fired for r in record] == [True, False, True, False]
    assert [r.policy for r in record] == ["p", None, "p", "p"]
    plain = tiny.collect(tiny.stream(tiny.encode(prompts), 10), 4)
    assert together[1] == plain[1]
    assert together[3] == plain[3], "a condition that does not hold leaves the request untouched"
    assert together[0] != plain[0]
    assert together[2] != plain[2]


def test_a_condition_is_the_sum_of_its_readings(tiny: HookedModel, policy_of: Any) -> None:
    probe = [
        {"layer": 0, "vector": "v.safetensors#a", "prompt_tail": 2},
        {"layer": 1, "vector": "v.safetensors#b"},
        {"layer": 1, "vector": "v.safetensors#c", "prompt_tail": 1, "skip": 3},
    ]
    policy = policy_of(add("c"), condition={"probe": probe, "threshold": 0.0})
    batch = tiny.encode(PROMPTS)
    with SteeringSession(tiny, policy) as session:
        list(session.stream(batch, 2))
        record = session.record
    found = tiny.capture(batch, [Address("resid_post", 0), Address("resid_post", 1)])
    early, late = found.values()
    for row in range(3):
        first, last = int(batch.first[row]), int(batch.last[row])
        tail = early[row, last - 1 : last + 1].mean(0) @ policy_of.vectors["a"]
        whole = late[row, first : last + 1].mean(0) @ policy_of.vectors["b"]
        one = late[row, last - 3] @ policy_of.vectors["c"]
        assert record[row].score == pytest.approx(float(tail + whole + one), rel=1e-3, abs=1e-3)
        assert record[row].fired == (record[row].score > 0)
    assert len({r.fired for r in record}) <= 2


def test_a_condition_is_read_at_full_precision(make_tiny: Any, policy_of: Any) -> None:
    model = make_tiny("llama")
    model.hf.to(torch.bfloat16)
    probe = [{"layer": 0, "vector": "v.safetensors#a"}]
    batch = model.encode([PROMPTS[2] * 3])
    x = model.capture(batch, [Address("resid_post", 0)])[Address("resid_post", 0)]
    policy = policy_of(add("c"), condition={"probe": probe, "threshold": 0.0})
    with SteeringSession(model, policy) as session:
        session.logits(batch)
    expected = float((x[0].float() @ policy_of.vectors["a"]).mean())
    assert session.record[0].score == pytest.approx(expected, rel=1e-5)


def test_no_policy_steers_nothing(tiny: HookedModel) -> None:
    batch = tiny.encode(PROMPTS)
    with SteeringSession(tiny, None) as session:
        assert torch.equal(session.logits(batch), tiny.logits(batch))
        assert [r.policy for r in session.record] == [None] * 3


def test_rows_and_policies_must_match(tiny: HookedModel, policy_of: Any) -> None:
    with (
        SteeringSession(tiny, [policy_of(add()), None]) as session,
        pytest.raises(InterpretOpsError, match="policies for 2 rows but the batch has 3"),
    ):
        session.generate(PROMPTS, 2)


def test_sampling_works_under_steering(tiny: HookedModel, policy_of: Any) -> None:
    sampling = Sampling(temperature=1.0, seed=3)
    with SteeringSession(tiny, policy_of(add())) as session:
        first = session.generate(PROMPTS, 8, sampling=sampling)
        assert session.generate(PROMPTS, 8, sampling=sampling) == first
