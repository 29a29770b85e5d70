"""Scrubbing personal information from text before it touches a disk.

What is found, and how:

- e-mail and IP addresses by their form;
- phone numbers by `phonenumbers` (Google's numbering plans: Australian and any `+` number, national
  forms of the chosen regions), and any plausible number right after a word such as "phone";
- payment cards by issuer prefix, length and Luhn check digit;
- Australian identifiers (TFN, ABN, ACN, Medicare) by their check digits;
- street and post-box addresses by their form ("12/34 Smith Street, Carlton VIC 3053");
- named persons by spaCy's entity recogniser, where spaCy and an English model are installed.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from interpretops.prompts.check_digits import check_digit_numbers
from interpretops.prompts.contact_details import addresses, emails, ip_addresses, phones
from interpretops.prompts.finding import Finding, PersonalInformation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SPACY_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_trf", "en_core_web_sm")
_POSSESSIVE = re.compile(r"['’]s?$")


class Redactor:
    """Replaces personal information by a tag of its kind.

    Args:
        phone_regions: Countries (ISO 3166 two-letter codes) whose national number formats count as
            phone numbers, home first; numbers with a `+` count whatever their country.
        person_model: Name of an installed spaCy model that finds named persons; "auto" takes the
            best English one installed, or none; None looks for no persons.
    """

    def __init__(
        self,
        *,
        phone_regions: Sequence[str] = ("AU", "NZ", "US", "GB"),
        person_model: str | None = "auto",
    ) -> None:
        self._phone_regions = tuple(phone_regions)
        self.person_model = _installed_model() if person_model == "auto" else person_model

    @property
    def kinds(self) -> tuple[PersonalInformation, ...]:
        """The kinds looked for: all, less `PERSON` where no spaCy model is installed."""
        return tuple(
            kind
            for kind in PersonalInformation
            if kind is not PersonalInformation.PERSON or self.person_model is not None
        )

    def scrub(self, text: str, *, persons: bool = True) -> tuple[str, dict[str, int]]:
        """Replace what `find` finds by tags such as `[EMAIL]`.

        Args:
            text: What to scrub.
            persons: Whether to look for named persons too, if a model is there. Labels are
                scrubbed without: a topic such as "hamlet" names no one, and must stay itself.

        Returns:
            The scrubbed text, and how many pieces of each kind were replaced.
        """
        pieces: list[str] = []
        counts: Counter[str] = Counter()
        position = 0
        for finding in self.find(text, persons=persons):
            pieces += [text[position : finding.start], f"[{finding.kind}]"]
            counts[finding.kind.value] += 1
            position = finding.end
        return "".join([*pieces, text[position:]]), dict(sorted(counts.items()))

    def find(self, text: str, *, persons: bool = True) -> list[Finding]:
        """Personal information in `text`: in order, not overlapping.

        Where two kinds claim the same characters the surer one has them: e-mail, IP, numbers with
        check digits, then phone, address, person.
        """
        taken: list[Finding] = []
        searches = [emails, ip_addresses, check_digit_numbers, self._phones, addresses]
        for search in [*searches, self._persons] if persons else searches:
            free = _without_overlap(sorted(search(text), key=lambda f: (f.start, -f.end)), taken)
            taken = sorted([*taken, *free], key=lambda f: f.start)
        return taken

    def _phones(self, text: str) -> Iterator[Finding]:
        return phones(text, self._phone_regions)

    def _persons(self, text: str) -> Iterator[Finding]:
        if self.person_model is None:
            return
        self._recogniser.max_length = max(self._recogniser.max_length, len(text) + 1)
        for entity in self._recogniser(text).ents:
            # a tag of an earlier pass must not be taken for a name
            tagged = entity.text.strip("[]") in PersonalInformation.__members__
            if entity.label_ in ("PERSON", "PER") and not tagged:
                name = _POSSESSIVE.sub("", entity.text)
                end = entity.start_char + len(name)
                yield Finding(entity.start_char, end, PersonalInformation.PERSON)

    @cached_property
    def _recogniser(self) -> Any:
        import spacy

        keep = {"tok2vec", "transformer", "ner", "entity_ruler"}
        language = spacy.load(self.person_model)
        for pipe in set(language.pipe_names) - keep:
            language.disable_pipe(pipe)
        return language


def _installed_model() -> str | None:
    if find_spec("spacy") is None:
        return None
    return next((name for name in _SPACY_MODELS if find_spec(name) is not None), None)


def _without_overlap(found: Sequence[Finding], taken: Sequence[Finding]) -> list[Finding]:
    """The findings (sorted by start) that touch neither `taken` (sorted) nor one another."""
    free: list[Finding] = []
    position = 0
    last_end = 0
    for finding in found:
        while position < len(taken) and taken[position].end <= finding.start:
            position += 1
        clear = position == len(taken) or taken[position].start >= finding.end
        if clear and finding.start >= last_end:
            free.append(finding)
            last_end = finding.end
    return free
