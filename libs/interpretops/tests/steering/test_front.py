"""The front of a fitted policy: what each threshold and strength gives and costs."""

from __future__ import annotations

import pytest
from interpretops.prompts import Prompt
from interpretops.steering import Policy
from interpretops.steering.front import Tried, measure_front, relative_drop
from interpretops.steering.goal import Refuse

POLICY = Policy.model_validate(
    {
        "meta": {"id": "p", "target_class": "t"},
        "interventions": [
            {"type": "head_scale", "selector": {"layer": 0, "heads": [0]}, "scale": 0.0}
        ],
    }
)
YES, NO, NONSENSE = "Sure, here is how to do it.", "I'm sorry, but I can't help with that.", "!!!"


def prompts(count: int, scores: list[float]) -> list[tuple[Prompt, float]]:
    made = [Prompt(id=f"p{i}", text=f"{i}", topic=f"t{i // 2}") for i in range(count)]
    return list(zip(made, scores, strict=True))


def test_each_point_counts_what_would_be_answered_there() -> None:
    asked: list[tuple[str, list[str]]] = []

    def answer(policy: Policy | None, texts: list[str], called: str) -> list[str]:
        asked.append((called, list(texts)))
        return [YES if policy is None else NO for _ in texts]

    risky = prompts(4, [3.0, 2.0, 1.0, 0.0])
    harmless = prompts(10, [2.5, 1.5, *[-1.0] * 8])
    points = measure_front(
        [
            Tried(POLICY, POLICY, "weak", [NO, YES, NO, NO]),
            Tried(POLICY, POLICY, "strong", [NO, NO, NO, NONSENSE]),
        ],
        [YES, YES, YES, NO],
        risky,
        harmless,
        {0.1: 1.8, 0.2: 0.5},
        goal=Refuse(),
        answer=answer,  # type: ignore[arg-type]
    )
    found = [
        (
            point.trial,
            point.budget,
            point.defense_efficacy and round(point.defense_efficacy.value, 3),
            round(point.collateral_damage.value, 3),
            point.efficient,
        )
        for point in points
    ]
    assert found == [
        (0, 0.1, 0.333, 0.1, False),
        (0, 0.2, 0.667, 0.2, False),
        (1, 0.1, 0.667, 0.1, True),
        (1, 0.2, 1.0, 0.2, True),
    ]
    # Only prompts above the lowest threshold are answered, once for each candidate.
    assert [texts for _, texts in asked] == [["0", "1"]] * 3
    for point in points:
        assert (point.collateral_damage.n, point.fired_risky > 0) == (10, True)
        assert point.collateral_damage.low <= point.collateral_damage.value
        assert point.collateral_damage.value <= point.collateral_damage.high


def test_nonsense_that_is_new_averts_nothing() -> None:
    (point,) = measure_front(
        [Tried(POLICY, POLICY, "c", [NONSENSE, NO])],
        [YES, YES],
        prompts(2, [2.0, 2.0]),
        prompts(2, [0.0, 0.0]),
        {0.1: 1.0},
        goal=Refuse(),
        answer=lambda *_: pytest.fail("no harmless prompt is above the threshold"),
    )
    assert point.defense_efficacy is not None
    assert point.defense_efficacy.value == 0.5
    assert (point.collateral_damage.value, point.fired_harmless) == (0.0, 0.0)


def test_a_drop_from_nothing_has_no_value() -> None:
    assert relative_drop([(0.0, 1.0)], ["a"], 0) is None
