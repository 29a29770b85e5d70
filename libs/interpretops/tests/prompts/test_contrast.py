"""Contrast sets keep splits apart, dress twins alike, and are balanced and repeatable."""

from __future__ import annotations

from collections import Counter

import pytest
from interpretops.errors import InterpretOpsError
from interpretops.prompts import Prompt, PromptSet, balanced, contrast_set, twins, wrapped

SPLITS = ("train", "validation", "test")
FRAMES = ("Pretend: {prompt} Go!", "In a story, {prompt}")


@pytest.fixture
def attacks() -> PromptSet:
    return PromptSet(
        prompts=tuple(
            Prompt(
                id=f"{split}-{topic}-{n}",
                text=f"harm {split} {topic} {n}",
                twin=f"calm {split} {topic} {n}",
                topic=f"{split}-{topic}",
                split=split,
            )
            for split in SPLITS
            for topic, size in (("small", 2), ("large", 9))
            for n in range(size)
        ),
        source="attacks",
    )


@pytest.fixture
def wrappers() -> PromptSet:
    return PromptSet(
        prompts=tuple(
            Prompt(
                id=f"w-{split}-{family}-{n}",
                text=f"{split} {family}. {frame}",
                wrapper=f"{split}-{family}",
                split=split,
            )
            for split in SPLITS
            for family in ("role", "story")
            for n, frame in enumerate(FRAMES)
        ),
        source="wrappers",
    )


@pytest.mark.parametrize("split", SPLITS)
def test_topics_and_wrappers_are_of_the_split_alone(attacks, wrappers, split) -> None:
    got = contrast_set(attacks, wrappers, split=split, wrappers_per_attack=4)
    assert len(got) == 44
    assert len({prompt.id for prompt in got}) == 44
    for prompt in got:
        assert prompt.split == split
        assert str(prompt.topic).startswith(split)
        assert str(prompt.wrapper).startswith(split)


def test_the_twin_wears_the_same_wrapper(attacks, wrappers) -> None:
    for prompt in contrast_set(attacks, wrappers, split="train", wrappers_per_attack=3):
        assert prompt.twin == prompt.text.replace("harm", "calm")
        assert prompt.text != prompt.twin


def test_an_attack_never_wears_one_wrapper_twice(attacks, wrappers) -> None:
    got = contrast_set(attacks, wrappers, split="test", wrappers_per_attack=99)
    assert len(got) == 11 * 4
    assert len({prompt.text for prompt in got}) == len(got)


def test_it_is_repeatable_and_a_smaller_one_is_a_beginning(attacks, wrappers) -> None:
    def build(**options):
        return contrast_set(attacks, wrappers, split="train", wrappers_per_attack=2, **options)

    assert build(seed=1) == build(seed=1)
    assert build(seed=1).texts != build(seed=2).texts
    assert build(seed=1, limit=7).texts == build(seed=1).texts[:7]


def test_any_beginning_is_balanced(attacks, wrappers) -> None:
    got = contrast_set(attacks, wrappers, split="train", limit=4)
    assert set(Counter(prompt.topic for prompt in got).values()) == {2}
    assert set(Counter(prompt.wrapper for prompt in got).values()) == {2}


def test_twins_stand_in_the_same_order(attacks, wrappers) -> None:
    pairs = contrast_set(attacks, wrappers, split="train")
    assert twins(pairs).texts == [prompt.twin for prompt in pairs]
    assert not {prompt.id for prompt in pairs} & {prompt.id for prompt in twins(pairs)}


def test_balanced_takes_categories_in_turn() -> None:
    prompts = PromptSet(
        prompts=tuple(
            Prompt(id=f"{c}{n}", text="t", category=c)
            for c, k in (("a", 50), ("b", 5))
            for n in range(k)
        ),
        source="s",
    )
    few = balanced(prompts, 8, seed=1)
    assert Counter(prompt.category for prompt in few) == {"a": 4, "b": 4}
    assert balanced(prompts, 20, seed=1).prompts[:8] == few.prompts


def test_a_topic_or_family_in_two_splits_is_refused(attacks, wrappers) -> None:
    leaky = attacks.prompts[0].model_copy(update={"split": "test"})
    mixed = PromptSet(prompts=(*attacks.prompts, leaky), source="attacks")
    with pytest.raises(InterpretOpsError, match="both the train and the test split"):
        contrast_set(mixed, wrappers, split="test")
    leaky = wrappers.prompts[0].model_copy(update={"split": "test"})
    mixed = PromptSet(prompts=(*wrappers.prompts, leaky), source="wrappers")
    with pytest.raises(InterpretOpsError, match="wrapper family"):
        contrast_set(attacks, mixed, split="test")


def test_what_is_missing_is_named(attacks, wrappers) -> None:
    with pytest.raises(InterpretOpsError, match="nothing in the test split"):
        contrast_set(attacks.where(split="train"), wrappers, split="test")
    single = attacks.prompts[0].model_copy(update={"twin": None})
    with pytest.raises(InterpretOpsError, match="no harmless twin"):
        contrast_set(attacks.model_copy(update={"prompts": (single,)}), wrappers, split="train")
    with pytest.raises(InterpretOpsError, match="2 times"):
        wrapped(single, Prompt(id="w", text="{prompt} {prompt}", wrapper="x"))
