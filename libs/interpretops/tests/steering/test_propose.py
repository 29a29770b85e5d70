"""Which of the strengths that were tried becomes the policy."""

from __future__ import annotations

import pytest
from interpretops.steering.propose import ProposeSpec, Trial, _choose


def trial(refusal: float, degeneration: float) -> Trial:
    return Trial(name="t", strength=1, refusal_rate=refusal, degeneration_rate=degeneration, n=32)


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
    assert _choose(trials, ProposeSpec()) == chosen
