"""What a prompt is, and a set of them with a hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from interpretops.artifacts.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from interpretops.prompts.redaction import Redactor

Split = Literal["train", "validation", "test"]


class Prompt(BaseModel):
    """One prompt and what is known about it.

    Attributes:
        id: Stable name: the source's own, or `p_` and the beginning of the text's SHA-256.
        text: What the user says (before any chat template).
        category: Risk class or label, such as `privacy` or `safe`.
        topic: What it is about; splits keep topics apart.
        split: The part of the data it belongs to.
        twin: A harmless prompt of the same form, for contrast.
        wrapper: Family of the jailbreak wrapper that `text` is dressed in.
        answers: Right answers, where there are any.
        target: How a complying answer would begin (AdvBench and JailbreakBench give one).
        correct: How `text` rightly goes on, for contrast with `wrong`.
        wrong: How it wrongly goes on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    category: str | None = None
    topic: str | None = None
    split: Split | None = None
    twin: str | None = None
    wrapper: str | None = None
    answers: tuple[str, ...] = ()
    target: str | None = None
    correct: str | None = None
    wrong: str | None = None

    def redacted(self, redactor: Redactor) -> tuple[Prompt, Counter[str]]:
        """This prompt with every text of it scrubbed, and how much was replaced, by kind.

        An id that holds personal information is replaced by one made from the scrubbed text.
        """
        counts: Counter[str] = Counter()

        def scrub(text: str, *, persons: bool = True) -> str:
            clean, found = redactor.scrub(text, persons=persons)
            counts.update(found)
            return clean

        def label(text: str | None) -> str | None:
            return None if text is None else scrub(text, persons=False)

        text = scrub(self.text)
        changed = {
            "text": text,
            "twin": None if self.twin is None else scrub(self.twin),
            "target": None if self.target is None else scrub(self.target),
            "correct": None if self.correct is None else scrub(self.correct),
            "wrong": None if self.wrong is None else scrub(self.wrong),
            "answers": tuple(scrub(answer) for answer in self.answers),
            "category": label(self.category),
            "topic": label(self.topic),
            "wrapper": label(self.wrapper),
        }
        # An id made from the text's hash would let the original be guessed and confirmed.
        if self.id.startswith(prompt_id(self.text)):
            suffix = self.id.removeprefix(prompt_id(self.text))
            changed["id"] = prompt_id(text) + suffix
        elif redactor.find(self.id, persons=False):
            changed["id"] = prompt_id(text)
        return self.model_copy(update=changed), counts


def prompt_id(text: str) -> str:
    """The id of a prompt whose source gives it none."""
    return f"p_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class PromptSet(BaseModel):
    """Prompts in order, with unique ids.

    Attributes:
        prompts: The prompts.
        source: Where they came from: a file's name (not its folder), `stdin` or `package:NAME`.
        redacted: The kinds of personal information that were looked for; None when none were.
        redactions: How many pieces of each kind were replaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: tuple[Prompt, ...]
    source: str
    redacted: tuple[str, ...] | None = None
    redactions: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str], *, source: str = "memory") -> PromptSet:
        """A set of plain texts."""
        return cls(
            prompts=unique_ids(Prompt(id=prompt_id(text), text=text) for text in texts),
            source=source,
        )

    @property
    def sha256(self) -> str:
        """The SHA-256 of the prompts' content in order; the source does not enter."""
        return hashlib.sha256(
            canonical_json([prompt.model_dump(mode="json") for prompt in self.prompts])
        ).hexdigest()

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Generator[Prompt, None, None]:  # type: ignore[override]
        yield from self.prompts

    def __getitem__(self, index: int) -> Prompt:
        return self.prompts[index]

    @property
    def texts(self) -> list[str]:
        """The prompts' texts in order."""
        return [prompt.text for prompt in self.prompts]

    def where(
        self,
        *,
        split: Split | None = None,
        category: str | None = None,
        topic: str | None = None,
        wrapper: str | None = None,
    ) -> PromptSet:
        """The prompts that have all the given values; a criterion left at None does not filter."""
        wanted = {"split": split, "category": category, "topic": topic, "wrapper": wrapper}
        asked = {name: value for name, value in wanted.items() if value is not None}
        return self.filter(
            lambda prompt: all(getattr(prompt, name) == value for name, value in asked.items())
        )

    def filter(self, keep: Callable[[Prompt], bool]) -> PromptSet:
        """The prompts for which `keep` is true."""
        return self.model_copy(update={"prompts": tuple(p for p in self.prompts if keep(p))})

    def redact(self, redactor: Redactor) -> PromptSet:
        """The same prompts with personal information scrubbed, and counts of what was."""
        counts: Counter[str] = Counter(self.redactions)
        clean: list[Prompt] = []
        for prompt in self.prompts:
            scrubbed, found = prompt.redacted(redactor)
            clean.append(scrubbed)
            counts.update(found)
        return PromptSet(
            prompts=unique_ids(clean),
            source=self.source,
            redacted=tuple(kind.value for kind in redactor.kinds),
            redactions=dict(sorted(counts.items())),
        )


def unique_ids(prompts: Iterable[Prompt]) -> tuple[Prompt, ...]:
    """The prompts with ids made unique: the second `x` becomes `x-2`, and so on."""
    taken: Counter[str] = Counter()
    used: set[str] = set()
    unique: list[Prompt] = []
    for prompt in prompts:
        identifier = prompt.id
        while identifier in used:
            taken[prompt.id] += 1
            identifier = f"{prompt.id}-{taken[prompt.id] + 1}"
        used.add(identifier)
        unique.append(
            prompt if identifier == prompt.id else prompt.model_copy(update={"id": identifier})
        )
    return tuple(unique)
