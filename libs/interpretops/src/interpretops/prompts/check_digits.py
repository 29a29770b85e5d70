"""Numbers that prove what they are by a check digit: payment cards and Australian identifiers.

Rules of the Australian ones: Australian Taxation Office (TFN, ABN), Securities and Investments
Commission (ACN), Services Australia (Medicare); the same as in Presidio's recognisers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from interpretops.prompts.finding import Finding, PersonalInformation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LABEL_REACH = 40  # characters before a number in which a word may say what the number is

_TFN_WEIGHTS = (1, 4, 3, 7, 5, 8, 6, 9, 10)
_ABN_WEIGHTS = (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)
_ACN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 1)
_MEDICARE_WEIGHTS = (1, 3, 7, 9, 1, 3, 7, 9)


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def is_tfn(digits: str) -> bool:
    """Whether nine digits are a tax file number: the weighted sum is a multiple of 11."""
    return len(digits) == 9 and digits[0] != "0" and _weighted(digits, _TFN_WEIGHTS) % 11 == 0


def is_abn(digits: str) -> bool:
    """Whether eleven digits are a business number.

    The first digit less one, the weighted sum is a multiple of 89.
    """
    if len(digits) != 11 or digits[0] == "0":
        return False
    return _weighted(str(int(digits[0]) - 1) + digits[1:], _ABN_WEIGHTS) % 89 == 0


def is_acn(digits: str) -> bool:
    """Whether nine digits are a company number: the ninth completes the weighted sum to tens."""
    return len(digits) == 9 and -_weighted(digits, _ACN_WEIGHTS) % 10 == int(digits[8])


def is_medicare(digits: str) -> bool:
    """Whether digits are a Medicare card number: ninth checks the first eight, tenth is the issue.

    An eleventh digit, where there is one, is the person's line on the card.
    """
    return (
        len(digits) in (10, 11)
        and digits[0] in "23456"
        and digits[9] != "0"
        and (len(digits) == 10 or digits[10] != "0")
        and _weighted(digits, _MEDICARE_WEIGHTS) % 10 == int(digits[8])
    )


# A run of digit groups divided by single spaces or hyphens, not part of a word, decimal or amount.
_RUN = re.compile(r"(?<![\w$€£+])(?<![0-9][.,])[0-9]+(?:[ \u00a0-][0-9]+)*(?![\w]|[.,][0-9]|%)")
_GROUP = re.compile(r"[0-9]+")
_MAX_DIGITS = 19


@dataclass(frozen=True)
class _NumberRule:
    kind: PersonalInformation
    check: Callable[[str], bool]
    groupings: tuple[tuple[int, ...], ...]  # how people write it; an unbroken number always counts
    label: re.Pattern[str]
    labelled_check: Callable[[str], bool] | None = None  # a milder check where the label is there
    free_in_run: bool = False  # whether the grouping counts inside a longer run with no label


def _label(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b", re.IGNORECASE)


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1)."""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (
        sum(int(digit) for digit in digits[-1::-2]) + sum(n - 9 if n > 9 else n for n in doubled)
    ) % 10 == 0


def is_payment_card(digits: str) -> bool:
    """Whether digits have an issuer's prefix, its length and a right Luhn digit."""
    return _CARD_ISSUERS.fullmatch(digits) is not None and passes_luhn(digits)


def _is_luhn_number(digits: str) -> bool:
    return 12 <= len(digits) <= _MAX_DIGITS and passes_luhn(digits)


_CARD_ISSUERS = re.compile(
    r"4[0-9]{12}(?:[0-9]{3}){0,2}"  # Visa: 13, 16 or 19
    r"|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-5]|095|[689][0-9])[0-9]{11}"  # Diners
    r"|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}"  # Discover
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}|(?:2131|1800)[0-9]{11}"  # JCB
    r"|(?:62|81)[0-9]{14,17}"  # UnionPay
    r"|(?:50|5[6-9]|6[0-9])[0-9]{10,17}"  # Maestro
)

_NUMBER_RULES = (
    _NumberRule(
        PersonalInformation.CARD,
        is_payment_card,
        ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5)),
        _label("cards?|cc|credit|debit|visa|mastercard|amex|american express|maestro|diners"),
        labelled_check=_is_luhn_number,
        free_in_run=True,
    ),
    _NumberRule(
        PersonalInformation.MEDICARE,
        is_medicare,
        ((4, 5, 1), (4, 5, 1, 1)),
        _label("medicare"),
    ),
    _NumberRule(
        PersonalInformation.ABN,
        is_abn,
        ((2, 3, 3, 3),),
        _label("a\\.?b\\.?n\\.?|australian business number|business number"),
    ),
    _NumberRule(
        PersonalInformation.TFN,
        is_tfn,
        ((3, 3, 3),),
        _label("t\\.?f\\.?n\\.?|tax file|tax number|tax file number"),
    ),
    _NumberRule(
        PersonalInformation.ACN,
        is_acn,
        ((3, 3, 3),),
        _label("a\\.?c\\.?n\\.?|australian company number|company number"),
    ),
)


def check_digit_numbers(text: str) -> Iterator[Finding]:
    """Payment cards, Medicare numbers, ABNs, TFNs and ACNs.

    A number counts when its check digit is right and it is unbroken or written, as a whole, in its
    own groups. After a word that says what it is ("TFN", "card") any grouping counts, and so does
    a part of a longer row of numbers.
    """
    for run in _RUN.finditer(text):
        groups = [
            (run.start() + g.start(), run.start() + g.end()) for g in _GROUP.finditer(run.group())
        ]
        before = text[max(0, run.start() - _LABEL_REACH) : run.start()]
        labelled = {rule.kind for rule in _NUMBER_RULES if rule.label.search(before)}
        # a rule whose label is there goes first: the same nine digits can be a TFN and an ACN
        rules = sorted(_NUMBER_RULES, key=lambda rule: rule.kind not in labelled)
        first = 0
        while first < len(groups):
            match = _number_at(text, groups, first, rules, labelled)
            if match is None:
                first += 1
            else:
                last, kind = match
                yield Finding(groups[first][0], groups[last][1], kind)
                first = last + 1


def _number_at(
    text: str,
    groups: Sequence[tuple[int, int]],
    first: int,
    rules: Sequence[_NumberRule],
    labelled: set[PersonalInformation],
) -> tuple[int, PersonalInformation] | None:
    """The number that begins at group `first`: its last group and kind."""
    lengths: tuple[int, ...] = tuple(
        end - start for start, end in groups[first : first + _MAX_DIGITS]
    )
    totals = list(accumulate(lengths))
    for rule in rules:
        for size in range(len(lengths), 0, -1):
            if totals[size - 1] > _MAX_DIGITS:
                continue
            is_labelled = rule.kind in labelled
            usual = size == 1 or lengths[:size] in rule.groupings
            whole_run = size == len(groups)
            if not (is_labelled or (usual and (whole_run or rule.free_in_run))):
                continue
            check = (rule.labelled_check if is_labelled else None) or rule.check
            digits = "".join(text[start:end] for start, end in groups[first : first + size])
            if check(digits):
                return first + size - 1, rule.kind
    return None
