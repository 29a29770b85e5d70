"""Contrast sets: attacks dressed in jailbreak wrappers, each beside a harmless twin dressed alike.

The twin wears the *same* wrapper, so what differs between the two is the harm and not the wrapper.
Attacks are divided by topic and wrappers by family, and a set takes both from one split: what is
measured on the test split holds for topics and for wrappers that no earlier step has seen.
"""

from __future__ import annotations

import random
from itertools import zip_longest
from typing import TYPE_CHECKING

from interpretops.errors import InterpretOpsError
from interpretops.prompts.prompt import Prompt, PromptSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from interpretops.prompts.prompt import Split

SLOT = "{prompt}"
"""Where a wrapper's template takes the prompt."""


def wrapped(prompt: Prompt, wrapper: Prompt) -> Prompt:
    """`prompt` and its twin, both dressed in `wrapper`.

    Args:
        prompt: What is asked, and its harmless twin if it has one.
        wrapper: Its text is a template with `{prompt}` in it; its family is its `wrapper` field.

    Raises:
        InterpretOpsError: When the template does not hold `{prompt}` exactly once.
    """
    if wrapper.text.count(SLOT) != 1:
        raise InterpretOpsError(
            f"wrapper {wrapper.id!r} holds {SLOT} {wrapper.text.count(SLOT)} times",
            fix=f"write {SLOT} once, where the prompt belongs",
        )
    return prompt.model_copy(
        update={
            "id": f"{prompt.id}+{wrapper.id}",
            "text": wrapper.text.replace(SLOT, prompt.text),
            "twin": None if prompt.twin is None else wrapper.text.replace(SLOT, prompt.twin),
            "wrapper": wrapper.wrapper,
        }
    )


def contrast_set(
    attacks: PromptSet,
    wrappers: PromptSet,
    *,
    split: Split,
    wrappers_per_attack: int = 1,
    limit: int | None = None,
    seed: int = 0,
) -> PromptSet:
    """The attacks of a split, each dressed in wrappers of the same split, with twins dressed alike.

    The order is random but balanced: topics take turns, and so do wrapper families, so that any
    beginning of the set covers them as evenly as it can. A smaller `limit` therefore gives a
    beginning of what a larger one gives.

    Args:
        attacks: Prompts with `split`, `topic` and `twin`.
        wrappers: Templates with `split` and `wrapper`, as `wrapped` takes them.
        split: Which part to build.
        wrappers_per_attack: How many different wrappers each attack is dressed in, at most.
        limit: How many prompts to give, at most.
        seed: Seed of the order and of which wrapper meets which attack.

    Raises:
        InterpretOpsError: When the split has no attacks or no wrappers, an attack has no twin, or a
            topic or wrapper family occurs in more than one split.
    """
    _apart(attacks, "topic", lambda prompt: prompt.topic)
    _apart(wrappers, "wrapper family", lambda prompt: prompt.wrapper)
    rng = random.Random(f"{seed}/{split}")
    chosen = _in_turns(attacks.where(split=split), lambda prompt: prompt.topic, rng)
    dresses = _in_turns(wrappers.where(split=split), lambda prompt: prompt.wrapper, rng)
    for found, source in ((chosen, attacks.source), (dresses, wrappers.source)):
        if not found:
            raise InterpretOpsError(
                f"{source} has nothing in the {split} split",
                fix=f'mark some of its records with "split": "{split}"',
            )
    without = next((prompt.id for prompt in chosen if prompt.twin is None), None)
    if without is not None:
        raise InterpretOpsError(
            f"attack {without!r} of {attacks.source} has no harmless twin",
            fix="give it a 'twin': the same request made harmless",
        )
    rounds = range(min(wrappers_per_attack, len(dresses)))
    # In each round every attack moves on by one wrapper, so it never wears the same one twice.
    built = [
        wrapped(prompt, dresses[(place + turn) % len(dresses)])
        for turn in rounds
        for place, prompt in enumerate(chosen)
    ]
    return PromptSet(
        prompts=tuple(built[:limit]),
        source=f"{attacks.source} x {wrappers.source} ({split})",
        redacted=attacks.redacted,
        redactions=attacks.redactions,
    )


def twins(prompts: PromptSet) -> PromptSet:
    """The harmless twins as prompts of their own, in the same order, with `~` after their ids.

    Prompts without a twin are left out.
    """
    return prompts.model_copy(
        update={
            "prompts": tuple(
                prompt.model_copy(
                    update={
                        "id": f"{prompt.id}~",
                        "text": prompt.twin,
                        "twin": None,
                        "target": None,
                    }
                )
                for prompt in prompts
                if prompt.twin is not None
            ),
            "source": f"twins of {prompts.source}",
        }
    )


def balanced(prompts: PromptSet, limit: int, *, seed: int = 0) -> PromptSet:
    """At most `limit` prompts, categories as even as can be; a beginning of any larger `limit`."""
    rng = random.Random(seed)
    order = _in_turns(prompts, lambda prompt: prompt.category, rng)
    return prompts.model_copy(update={"prompts": tuple(order[:limit])})


def _in_turns(
    prompts: Iterable[Prompt], group: Callable[[Prompt], str | None], rng: random.Random
) -> list[Prompt]:
    """The prompts shuffled, then dealt out so that the groups take turns."""
    groups: dict[str | None, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(group(prompt), []).append(prompt)
    piles: list[Sequence[Prompt]] = [rng.sample(pile, len(pile)) for pile in groups.values()]
    rng.shuffle(piles)
    return [prompt for deal in zip_longest(*piles) for prompt in deal if prompt is not None]


def _apart(prompts: PromptSet, what: str, group: Callable[[Prompt], str | None]) -> None:
    seen: dict[str, str] = {}
    for prompt in prompts:
        name = group(prompt)
        if name is None or prompt.split is None:
            continue
        if seen.setdefault(name, prompt.split) != prompt.split:
            raise InterpretOpsError(
                f"{what} {name!r} of {prompts.source} is in both the {seen[name]} and the "
                f"{prompt.split} split, so a test would measure what was trained on",
                fix=f"give every record of one {what} the same split",
            )
