"""Features are watched in every prompt, whether the policy acts or not, and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from interpretops.models import Address
from interpretops.sae import TrainingRule, new_sae
from interpretops.serving import Finished, Limits, Request, ServingEngine
from interpretops.steering import Policy, SteeringSession, measure_reference, traffic_of
from interpretops.steering.actions import bind, watched
from safetensors.torch import save_file

from ..conftest import DEVICE

if TYPE_CHECKING:
    from pathlib import Path

    from interpretops.models import HookedModel
    from interpretops.sae import SAE

LAYER, FEATURES = 2, (3, 7, 11)
PROMPTS = ["Hi", "How are you today?", "Tell me three colours, please.", "What is this? A test."]


class Shelf:
    """One autoencoder where a session looks for dictionaries."""

    def __init__(self, sae: SAE) -> None:
        self.saes = {Address("resid_post", LAYER): sae}


@pytest.fixture
def shelf(tiny: HookedModel) -> Any:
    torch.manual_seed(0)
    made = new_sae(TrainingRule(kind="jumprelu", k=4), tiny.d_model, 24)
    return Shelf(made.requires_grad_(False).to(DEVICE))


@pytest.fixture
def gated(tiny: HookedModel, tmp_path: Path, shelf: Any) -> Policy:
    """A policy that acts on about half of the prompts, at the layer that its features are read at."""
    generator = torch.Generator().manual_seed(3)
    save_file({"v": torch.randn(tiny.d_model, generator=generator)}, tmp_path / "v.safetensors")

    def policy(threshold: float) -> Policy:
        clamp = {
            "type": "feature_clamp",
            "selector": {"layer": LAYER, "sae_feature_ids": list(FEATURES)},
            "clamp_range": [4.0, 4.0],
        }
        probe = [{"layer": 1, "vector": "v.safetensors#v"}]
        data = {
            "meta": {"id": "p", "target_class": "t"},
            "condition": {"probe": probe, "threshold": threshold},
            "interventions": [clamp],
        }
        return Policy.model_validate(data).within(tmp_path)

    with SteeringSession(tiny, policy(0.0), dictionary=shelf) as session, torch.no_grad():
        session.logits(tiny.encode(PROMPTS))
        scores = sorted(record.score or 0.0 for record in session.record)
    return policy((scores[1] + scores[2]) / 2)


def strongest(model: HookedModel, shelf: Any, prompt: str) -> list[float]:
    """What the features do in a prompt that nothing touches, the first token left out."""
    site = Address("resid_post", LAYER)
    x = model.capture(model.encode([prompt]), [site])[site][:, 1:]
    features = shelf.saes[site].encode(x.flatten(0, 1))[:, list(FEATURES)]
    return [max(0.0, value) for value in features.amax(0).tolist()]


def test_every_row_is_watched_and_none_is_touched_by_it(
    tiny: HookedModel, gated: Policy, shelf: Any
) -> None:
    batch = tiny.encode(PROMPTS)
    with torch.no_grad(), SteeringSession(tiny, gated, dictionary=shelf) as session:
        before = session.logits(batch)
        assert not session.record[0].activations
    with torch.no_grad(), SteeringSession(tiny, gated, dictionary=shelf, watch=True) as session:
        assert torch.equal(session.logits(batch), before)
        records = session.record
    assert sorted(record.fired for record in records) == [False, False, True, True]
    for record, prompt in zip(records, PROMPTS, strict=True):
        assert list(record.activations) == [f"layer{LAYER}.f{i}" for i in FEATURES]
        wanted = pytest.approx(strongest(tiny, shelf, prompt), abs=1e-4)
        assert list(record.activations.values()) == wanted
    assert any(value > 0 for record in records for value in record.activations.values())


def test_rows_of_several_policies_keep_their_own(
    tiny: HookedModel, gated: Policy, shelf: Any
) -> None:
    rows = [None, gated, None, gated]
    with (
        torch.no_grad(),
        SteeringSession(tiny, rows, dictionary=shelf, watch=True) as session,
    ):
        session.generate(PROMPTS, 3)
        records = session.record
    assert [bool(record.activations) for record in records] == [False, True, False, True]
    for number in (1, 3):
        wanted = pytest.approx(strongest(tiny, shelf, PROMPTS[number]), abs=1e-4)
        assert list(records[number].activations.values()) == wanted


def test_served_requests_are_watched_too(tiny: HookedModel, gated: Policy, shelf: Any) -> None:
    bound = watched(bind(gated, tiny, shelf))
    with ServingEngine(tiny, Limits()) as engine:
        for prompt in PROMPTS:
            request = Request(tuple(tiny.token_ids(prompt)), 3, policy=bound)
            *_, finished = engine.stream(request)
            assert isinstance(finished, Finished)
            assert finished.record is not None
            wanted = pytest.approx(strongest(tiny, shelf, prompt), abs=1e-4)
            assert list(finished.record.activations.values()) == wanted


def test_a_reference_counts_what_sessions_tell(
    tiny: HookedModel, gated: Policy, shelf: Any
) -> None:
    found = measure_reference(tiny, gated, PROMPTS, PROMPTS[:1], dictionary=shelf)
    assert found.model == tiny.ref.fingerprint
    assert (found.harmless.requests, found.harmless.fired, found.risky.requests) == (4, 2, 1)
    assert found.harmless.margins.n == 4
    assert found.harmless.margins.above == 2
    fired = [strongest(tiny, shelf, prompt)[0] > 1e-3 for prompt in PROMPTS]
    assert found.harmless.features[f"layer{LAYER}.f3"].above == sum(fired)
    assert type(found).model_validate_json(found.model_dump_json()) == found
    again = traffic_of(tiny, gated, PROMPTS, dictionary=shelf, batch_size=1)
    assert (again.fired, again.requests) == (2, 4)
