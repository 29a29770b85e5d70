"""E-mail and IP addresses, phone numbers and street addresses: recognised by their form.

No pattern repeats inside a repetition of the same characters and all lengths are bounded, so every
search takes time linear in the text.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from phonenumbers import Leniency, PhoneNumberMatcher

from interpretops.prompts.finding import Finding, PersonalInformation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


# The local part begins only at the start of a word, so a long run of letters is tried once.
_EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{1,62}")


def emails(text: str) -> Iterator[Finding]:
    """E-mail addresses."""
    for match in _EMAIL.finditer(text):
        yield Finding(match.start(), match.end(), PersonalInformation.EMAIL)


_IPV4 = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{6,39}(?![\w:])")
_VERSION = re.compile(r"(?:\bv|\bversion|\brelease|\bsection)[ .:]{0,2}$", re.IGNORECASE)


def ip_addresses(text: str) -> Iterator[Finding]:
    """IPv4 and IPv6 addresses, loopback and unspecified ones and version numbers left out."""
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match.group())
            except ValueError:
                continue
            names_no_one = address.is_loopback or address.is_unspecified
            is_version = _VERSION.search(text[max(0, match.start() - 12) : match.start()])
            if not names_no_one and not is_version:
                yield Finding(match.start(), match.end(), PersonalInformation.IP)


_PHONE_HINT = re.compile(r"[0-9][^0-9\n]{0,4}[0-9][^0-9\n]{0,4}[0-9]")
_PHONE_DIGITS = r"\+?\(?[0-9](?:[ .()-]{0,3}[0-9]){6,14}(?!\w|[.,][0-9]|%|[ .()-]{1,2}[0-9])"
_PHONE_PATTERNS = (
    re.compile(
        r"\b(?:(?:(?:tele)?phone|mobile|mob|cell|tel|fax)(?: number| no\.?)?(?: is| was)?"
        r"\s{0,4}[:=]?"
        r"|(?:desk|office|work|home|contact|direct)(?: number| no\.?)?(?: is[ ]|[:=])"
        r"|(?:call|text|ring)(?:ing)? (?:(?:me|us|him|her|them)(?: on| at)?|on|at))"
        rf"\s{{0,4}}(?P<number>{_PHONE_DIGITS})",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?<![\w.,$+(])(?P<number>{_PHONE_DIGITS})"
        r"(?=[ -](?:phone|mobile|fax|office|home|work)\b)",
        re.IGNORECASE,
    ),
    re.compile(  # the North American form, even where its plan has no such number
        r"(?<![\w.,$+-])"
        r"(?P<number>\(?[2-9][0-9]{2}(?:\)[ ]?|[-.])[0-9]{3}[-.][0-9]{4}(?:x[0-9]{1,5})?)"
        r"(?![\w-]|[.,][0-9])"
    ),
    re.compile(r"(?<![\w+])(?P<number>\+[1-9](?:[ .()-]{0,2}[0-9]){7,14})(?![\w]|[.,][0-9])"),
)


def phones(text: str, regions: Sequence[str]) -> Iterator[Finding]:
    """Phone numbers.

    Args:
        text: Where to look.
        regions: ISO 3166 two-letter codes of countries whose national forms count, the home
            country first.
    """
    if _PHONE_HINT.search(text) is None:
        return
    for place, region in enumerate(regions):
        # abroad, only numbers grouped as they are there: the digits alone say too little
        leniency = Leniency.VALID if place == 0 else Leniency.STRICT_GROUPING
        # max_tries counts candidates; unlimited, since each costs bounded time
        for match in PhoneNumberMatcher(text, region, leniency, max_tries=len(text) + 1):
            # Six-digit "13" numbers are a business's and look like any number in a sum; so does
            # an unbroken number that begins with neither 0 nor +, such as 2147483647.
            raw = match.raw_string
            long_enough = sum(character.isdigit() for character in raw) >= 8
            plain = raw.isdigit() and not raw.startswith("0")
            if long_enough and not plain and not _is_decimal(text, match.start, match.end):
                yield Finding(match.start, match.end, PersonalInformation.PHONE)
    for pattern in _PHONE_PATTERNS:
        for labelled in pattern.finditer(text):
            yield Finding(*labelled.span("number"), PersonalInformation.PHONE)


def _is_decimal(text: str, start: int, end: int) -> bool:
    """Whether the characters are part of a number with a decimal point, or of an IP address."""
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    return before in {".", "$", "€", "£"} or (after[:1] == "." and after[1:].isdigit())


_STREET_TYPES = (
    "Street|St|Road|Rd|Avenue|Ave|Av|Drive|Dr|Lane|Ln|Court|Ct|Place|Pl|Crescent|Cres|Cr|Terrace|Tce"
    "|Parade|Pde|Boulevard|Blvd|Highway|Hwy|Close|Cl|Circuit|Cct|Grove|Gr|Way|Square|Sq|Esplanade|Esp"
    "|Promenade|Quay|Rise|Row|Mews|Walk|Loop|Gardens|Gdns|Parkway|Pkwy|Circle|Cir|Route|Alley"
)
_FOREIGN_STREETS = (
    "rue|avenue|boulevard|via|viale|piazza|piazzetta|vicolo|corso|rua|avenida|avda|calle|carrera"
    "|plaza|ulica|ul|Rue|Via|Viale|Piazza|Piazzetta|Vicolo|Corso|Rua|Avenida|Avda|Calle|Plaza"
)
_NAME = r"[A-Z\u00c0-\u024f][\w'’-]{0,30}"
_UNIT = (
    r"(?:(?:Unit|Apt|Apartment|Suite|Flat|Level|Lot|Shop)\.?[ ]?[0-9]{1,5}[A-Za-z]?[ ,/]{1,2}[ ]?)?"
)
_NUMBER = r"[0-9]{1,5}[A-Za-z]?(?:[/-][0-9]{1,5}[A-Za-z]?)?"
_STATE = r"(?:NSW|VIC|QLD|WA|SA|TAS|ACT|NT|[A-Z]{2})"
_TAIL = (
    rf"(?:,?[ \n]{{1,3}}(?:Unit|Apt|Apartment|Suite|Flat)\.?[ ]?[0-9]{{1,5}})?"
    rf"(?:,?[ \n]{{1,3}}{_NAME}(?:[ ]{_NAME}){{0,2}}"
    rf",?[ \n]{{1,3}}{_STATE}\b(?:,?[ ][0-9]{{4,5}}\b)?"
    rf"|,?[ ]{_STATE}[ ][0-9]{{4,5}}\b)?"
)
_ADDRESS_PATTERNS = (
    # 12/34 Smith Street, Carlton VIC 3053
    re.compile(
        rf"(?<![\w.,$])(?:{_UNIT}){_NUMBER},?[ ](?:{_NAME}[ ]){{1,4}}(?:{_STREET_TYPES})\b\.?"
        + _TAIL
    ),
    # 36 rue de Pologne; Via Roma 131
    re.compile(
        rf"(?<![\w.,$]){_NUMBER},?[ ](?:{_FOREIGN_STREETS})\.?"
        r"(?:[ ](?:d[aeiou]s?|del|della|la|el))?"
        rf"[ ]{_NAME}(?:[ ]{_NAME}){{0,2}}(?:[ ][0-9]{{1,5}}\b)?{_TAIL}"
    ),
    re.compile(
        rf"(?<!\w)(?:{_FOREIGN_STREETS})\.?(?:[ ](?:d[aeiou]s?|del|della|la|el))?"
        rf"[ ]{_NAME}(?:[ ]{_NAME}){{0,2}}[ ][0-9]{{1,5}}\b{_TAIL}"
    ),
    # 12 Hauptstrasse, Rooseveltlaan 110
    re.compile(
        r"(?<![\w.])(?:[0-9]{1,5}[ ])?[A-Z\u00c0-\u024f]\w{1,20}(?:stra(?:ss|ß)e|str\.|straat|laan"
        r"|gatan|gata|vej|vegen|veien|vägen|gasse|weg|katu|tie|utca)[ ][0-9]{1,5}[A-Za-z]?\b"
    ),
    re.compile(r"\b(?:Apt|Apartment|Suite)\.?[ ][0-9]{1,5}[A-Za-z]?\b"),
    # PO Box 123, Carlton VIC 3053
    re.compile(
        r"(?<!\w)(?i:(?:G\.?P\.?O|P\.?O|Locked|Private)\.?[ ]?(?:Box|Bag)|PSC[ ][0-9]{1,5},[ ]Box)"
        rf"[ ]?[0-9]{{1,6}}\b{_TAIL}"
    ),
    # after "address is", "lives at": a number, then capitalised words and numbers
    re.compile(
        r"(?i:\b(?:address(?:[ ]is)?|liv(?:e|es|ed|ing)[ ](?:at|in)|resid(?:e|es|ed|ing)[ ]at"
        r"|meet[ ]me[ ]at|deliver(?:ed)?[ ](?:to|at)|ship(?:ped)?[ ]to))"
        rf"[ ]?:?\s{{0,8}}(?P<address>{_UNIT}{_NUMBER}"
        rf"(?:,?\s{{1,4}}(?:{_NAME}|[0-9]{{1,6}}\b|[a-z]{{1,3}}\.?(?=[ ]{_NAME}))\.?){{1,12}})"
    ),
)


def addresses(text: str) -> Iterator[Finding]:
    """Street and post-box addresses, by their form or by words such as "lives at" before them."""
    for pattern in _ADDRESS_PATTERNS:
        group: int | str = "address" if "address" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            start = match.start(group)
            end = start + len(match[group].rstrip(".,"))
            yield Finding(start, end, PersonalInformation.ADDRESS)
