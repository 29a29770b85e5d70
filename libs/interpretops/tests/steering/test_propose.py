"""Which of the strengths that were tried becomes the policy, and what is told of it."""

from __future__ import annotations

import pytest
from interpretops.steering import Policy
from interpretops.steering.proposal import ProposeSpec, Trial
from interpretops.steering.propose import _choose, _held


def trial(averted: float, degenerate: float) -> Trial:
    return Trial(name="t", strength=1, averted=averted, degenerate=degenerate, n=32)


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        ([trial(0.97, 0.0), trial(1.0, 0.0)], 0),  # the weakest that reaches the target
        ([trial(0.97, 0.03), trial(1.0, 0.0)], 1),  # but not one whose answers degenerate
        ([trial(0.0, 0.0), trial(0.9, 0.03)], 1),  # none succeeds: refusing counts more
        ([trial(0.5, 0.0), trial(0.5, 0.0)], 0),
    ],
)
def test_the_weakest_trial_that_succeeds_is_chosen(trials: list[Trial], chosen: int) -> None:
    assert _choose(trials, trial(0.0, 0.0), ProposeSpec()) == chosen


def test_answers_may_degenerate_as_much_as_they_do_unsteered() -> None:
    trials = [trial(0.97, 0.20), trial(1.0, 0.0)]
    assert _choose(trials, trial(0.7, 0.19), ProposeSpec()) == 0
    assert _choose(trials, trial(0.7, 0.10), ProposeSpec()) == 1


def test_only_features_that_the_policy_holds_are_told_of() -> None:
    selector = {"layer": 2, "sae_feature_ids": [5]}
    clamp = {"type": "feature_clamp", "selector": selector, "clamp_range": [1.0, 1.0]}
    policy = Policy.model_validate(
        {"meta": {"id": "p", "target_class": "t"}, "interventions": [clamp]}
    )
    fitted = {"layer2.f5": "gradient", "layer2.f7": "circuit", "layer3.f5": "circuit"}
    assert _held(policy, fitted) == {"layer2.f5": "gradient"}
