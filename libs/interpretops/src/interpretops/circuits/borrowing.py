"""A contrast for risky prompts that come without one: harmless prompts of the project's own.

A circuit is what tells risky prompts from harmless ones, position by position, so the two of a pair
have equally many tokens. A prompt without a twin is therefore compared with harmless prompts that are
just as long. They differ from it in topic and wording as well as in the risk, and where few prompts
are compared with many harmless ones the pairs are not independent: a twin of one's own is better,
and the circuit says which of its pairs had none.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from interpretops.circuits.graph import Borrowed
from interpretops.circuits.task import ContrastPair
from interpretops.errors import InterpretOpsError
from interpretops.prompts import load_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interpretops.circuits.task import ContrastTask
    from interpretops.models import HookedModel

ENOUGH = 16
"""Pairs that are made at least: few prompts are each compared with several harmless ones."""

_TRIES = 200
_SENTENCES = "package:benign_instructions"


def with_borrowed(
    model: HookedModel, task: ContrastTask, *, seed: int
) -> tuple[ContrastTask, Borrowed | None]:
    """The task with a pair, or several, for each of its prompts that has no twin.

    Args:
        model: Its tokens are counted.
        task: The behaviour.
        seed: Draws the harmless prompts.

    Returns:
        A task of pairs alone, and where their harmless side came from; None if all twins were given.

    Raises:
        InterpretOpsError: When no prompt has a match.
    """
    if not task.prompts:
        return task, None
    lender = _Lender(model, task, seed)
    each = -(-ENOUGH // len(task.prompts))
    pairs = [
        ContrastPair(risky=prompt, harmless=harmless)
        for prompt in task.prompts
        for harmless in lender.like(prompt, each)
    ]
    matched = len({pair.risky for pair in pairs})
    if not pairs:
        raise InterpretOpsError(
            f"no harmless prompt of {lender.source} has as many tokens as “{task.prompts[0]}”",
            fix='give each prompt a "twin": the same request made harmless, with as many tokens',
        )
    borrowed = Borrowed(
        source=lender.source,
        seed=seed,
        pairs=len(pairs),
        prompts=matched,
        unmatched=len(set(task.prompts)) - matched,
    )
    whole = task.model_copy(update={"pairs": (*task.pairs, *pairs), "prompts": ()})
    return whole, borrowed


class _Lender:
    """Finds harmless prompts with so many tokens."""

    def __init__(self, model: HookedModel, task: ContrastTask, seed: int) -> None:
        # What is read off the words that follow wants texts that go on, not requests.
        self.source = "package:jailbreak" if task.behaviour.chat else "package:toxicity"
        self._model, self._task = model, task
        self._rng = random.Random(seed)
        # Test prompts are kept for measuring.
        own = load_prompts(self.source, redact=None).where(split="train")
        self._harmless = sorted({prompt.twin for prompt in own if prompt.twin})
        self._rng.shuffle(self._harmless)
        self._sentences = [
            prompt.text for prompt in load_prompts(_SENTENCES, redact=None).where(split="train")
        ]
        self._size = {text: self._tokens(text) for text in (*self._harmless, *self._sentences)}

    def like(self, prompt: str, n: int) -> list[str]:
        """At most `n` harmless prompts with as many tokens as this one, each another."""
        length = self._length(prompt)
        room = self._tokens(prompt)
        found: dict[str, None] = {}
        for text in self._candidates(room):
            if len(found) == n:
                break
            if text != prompt and self._length(text) == length:
                found[text] = None
        return list(found)

    def _candidates(self, room: int) -> Iterator[str]:
        """Harmless texts of about so many tokens: whole prompts first, then parts, then several."""
        start = self._rng.randrange(len(self._harmless))
        turned = (*self._harmless[start:], *self._harmless[:start])
        yield from (text for text in turned if self._size[text] == room)
        for text in turned:
            words = text.split(" ")
            for n in range(1, len(words) if self._size[text] > room else 0):
                # A request by its beginning; a text that goes on by its end.
                part = " ".join(words[:n] if self._task.behaviour.chat else words[-n:])
                if self._tokens(part) == room:
                    yield part
        for _ in range(_TRIES):
            yield from self._several(room)

    def _several(self, room: int) -> Iterator[str]:
        """Sentences of chance before a harmless prompt, if they fit."""
        before, left = "", room
        least = min(self._size[text] for text in self._harmless)
        while fitting := [text for text in self._sentences if self._size[text] <= left - least]:
            before += self._rng.choice(fitting) + " "
            left = room - self._tokens(before)
        # Within one, because a blank may be a token of its own or a part of the next.
        endings = [text for text in self._harmless if abs(self._size[text] - left) <= 1]
        if before and endings:
            yield before + self._rng.choice(endings)

    def _tokens(self, text: str) -> int:
        return len(self._model.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _length(self, text: str) -> int:
        return len(self._task.token_ids(self._model, text))
